import {
  createTokenModel,
  ignoredTokenModelWeights,
  type TokenModelConfig,
  tokenModelParameters,
  toOfficialTokenModelConfig,
} from '@detailflow/ar-model';
import { writeOfficialFolder } from '@detailflow/checkpoint/node';
import { type Backend, type Weights, weightFromArray } from '@detailflow/core';
import { previewCounts } from '@detailflow/eval';
import {
  createMixtureTokenizer,
  createTokenizer,
  ignoredTokenizerWeights,
  tokenizerParameters,
  toOfficialTokenizerConfig,
} from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { alignmentSpecs } from '../losses/alignment';
import { lossTerms } from '../losses/loss-networks';
import { TokenModelTrainer } from '../token-model-trainer';
import { TokenizerTrainer } from '../tokenizer-trainer';
import type { TrainingConfig } from '../training-config';
import { openLossNetworks } from './loss-networks';
import type { RunFolder } from './run-folder';
import type { RunModels, RunTokenizer, RunTokenModel } from './run-models';
import { runTokenizerTrainer } from './run-tokenizer-trainer';
import { startingTokenizer } from './starting-parameters';
import { weightsOf } from './weights';
import type { TrainedModel } from './write-model';

type Models = Pick<TrainingConfig, 'tokenizer' | 'tokenModel'>;

/** DetailFlow's models, as a run trains them. */
export function detailflowModels(models: Models): RunModels {
  return {
    tokenizer: runTokenizer(models),
    tokenModel: (classes) => runTokenModel(models, classes),
    // The official programs know no mixtures of codes.
    ...(!models.tokenizer.model.mixture && {
      writeOfficial: (folder, model) => writeOfficial(folder, models, model),
    }),
  };
}

function runTokenizer({ tokenizer }: Pick<Models, 'tokenizer'>): RunTokenizer {
  const { model: config, recipe } = tokenizer;
  const specs = tokenizerParameters(config);
  const create = (backend: Backend, parameters: Arrays) =>
    createTokenizer({ config, weights: weightsOf(specs, parameters), backend });
  return {
    ...{ config, specs, ignored: ignoredTokenizerWeights, previewCounts: previewCounts(config) },
    ...{ imageSize: config.imageSize, tokens: config.tokens, codebookSize: config.codebookSize },
    async open(run) {
      const { lossNetworks: files = {} } = run.options;
      const { networks, close } = await openLossNetworks(
        { tokenizer, imageSize: config.imageSize },
        files,
        run.backends[0],
      );
      const isFresh = (await run.folder.last('tokenizer')) === undefined;
      const terms = lossTerms(config, recipe, networks);
      const parameters = isFresh ? await startingTokenizer(tokenizer, terms, run.options) : undefined;
      const trainer = await TokenizerTrainer.create({
        ...{ config, recipe, networks, backends: run.backends, seed: run.config.seed },
        ...(parameters && { parameters }),
      });
      return runTokenizerTrainer(trainer, { imageSize: trainer.imageSize, close });
    },
    create,
    createRestoring: (backend, parameters) =>
      config.mixture
        ? createMixtureTokenizer({ config, weights: weightsOf(specs, parameters), backend })
        : create(backend, parameters),
  };
}

function runTokenModel({ tokenizer, tokenModel }: Models, classes: number): RunTokenModel {
  const config: TokenModelConfig = { ...tokenModel.model, classes };
  const specs = tokenModelParameters(config);
  return {
    ...{ config, specs, ignored: ignoredTokenModelWeights, tokens: config.tokens },
    imageSize: tokenModel.imageSize ?? tokenizer.model.imageSize,
    createTrainer: ({ run, parameters }) =>
      TokenModelTrainer.create({
        ...{ config, recipe: tokenModel.recipe, backends: run.backends, seed: run.config.seed },
        ...(parameters && { parameters }),
      }),
    create: (backend, parameters) =>
      createTokenModel({ config, weights: weightsOf(specs, parameters), backend }),
    createTokenizer: (backend, parameters) => runTokenizer({ tokenizer }).create(backend, parameters),
  };
}

/** How many codes the official layout remembers. */
const RECENT_CODES = 65536;

async function writeOfficial(
  folder: RunFolder,
  { tokenizer, tokenModel }: Models,
  model: TrainedModel,
): Promise<void> {
  const weights = weightsOf(tokenizerParameters(tokenizer.model), model.tokenizer);
  // Which codes were used lately: the official scripts look for it. A tokenizer from elsewhere has forgotten.
  const ring = (await folder.last('tokenizer'))?.tensors['codebook.ring'];
  const used = ring ? Float32Array.from(ring.data as Int32Array) : new Float32Array(RECENT_CODES);
  const alignment = alignmentWeights(model.tokenizer);
  const usedName = 'quantize.codebook_used';
  await writeOfficialFolder(await folder.place('official', 'tokenizer'), {
    ...toOfficialTokenizerConfig(tokenizer.model),
    weights: new Map([...weights, ...alignment, [usedName, weightFromArray(usedName, [used.length], used)]]),
    key: 'model',
    steps: tokenizer.recipe.schedule.steps,
  });
  if (!model.ar) return;
  const config = { ...tokenModel.model, classes: model.classNames.length };
  await writeOfficialFolder(await folder.place('official', 'ar'), {
    config: toOfficialTokenModelConfig(config),
    args: { gpt_type: 'c2i', num_classes: config.classes },
    weights: weightsOf(tokenModelParameters(config), model.ar),
    key: 'ema',
    steps: tokenModel.recipe.schedule.steps,
  });
}

/** The MLP of the alignment loss, where there is one: official checkpoints hold it too. */
function alignmentWeights(arrays: Arrays): Weights {
  const bias = arrays.get('global_token_proj.4.bias');
  const first = arrays.get('global_token_proj.0.weight');
  const hidden = arrays.get('global_token_proj.0.bias');
  if (!bias || !first || !hidden) return new Map();
  return weightsOf(alignmentSpecs(first.length / hidden.length, bias.length), arrays);
}
