import {
  createTokenModel,
  ignoredTokenModelWeights,
  type TokenModelConfig,
  tokenModelParameters,
  toOfficialTokenModelConfig,
} from '@detailflow/ar-model';
import { type OfficialContents, writeOfficialFolder } from '@detailflow/checkpoint/node';
import { type Backend, type Weight, type Weights, weightFromArray } from '@detailflow/core';
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
import type { Snapshot } from './checkpoint-file';
import { goingOn } from './earlier-training';
import { openLossNetworks } from './loss-networks';
import { inOfficialOrder } from './official-order';
import { fitsCheckpoint, isTrainingOf, tokenizerTraining, tokenModelTraining } from './official-training';
import type { RunFolder } from './run-folder';
import type { RunModels, RunTokenizer, RunTokenModel } from './run-models';
import { runTokenizerTrainer } from './run-tokenizer-trainer';
import { requireSameNetworks, tellOfUnused } from './same-networks';
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
      const { networks, used, close } = await openLossNetworks(
        { tokenizer, imageSize: config.imageSize },
        files,
        run.backends[0],
      );
      await requireSameNetworks(run.folder, used);
      tellOfUnused(run.folder, { files, used }, run.options.onNotice);
      const isFresh = (await run.folder.last('tokenizer')) === undefined;
      const terms = lossTerms(config, recipe, networks);
      const parameters = isFresh ? await startingTokenizer(tokenizer, terms, run.options) : undefined;
      const trainer = await TokenizerTrainer.create({
        ...{ config, recipe, networks, backends: run.backends, seed: run.config.seed },
        ...(parameters && { parameters }),
      });
      const { initial, onNotice } = run.options;
      const earlier = isFresh ? initial?.tokenizer : undefined;
      if (earlier?.training) {
        const { schedule, optimiser, adversarial } = recipe;
        const snapshot = await goingOn(await trainer.snapshot(), earlier.training, {
          ...{ file: earlier.file, section: 'tokenizer', steps: schedule.steps, optimiser, onNotice },
          start: adversarial?.start,
        });
        await trainer.restore(snapshot);
      }
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
  const specs = tokenizerParameters(tokenizer.model);
  const weights = weightsOf(specs, model.tokenizer);
  const last = await folder.last('tokenizer');
  // Which codes were used lately: the official scripts look for it. A tokenizer from elsewhere has forgotten.
  const ring = last?.tensors['codebook.ring'];
  const used = ring ? Float32Array.from(ring.data as Int32Array) : new Float32Array(RECENT_CODES);
  const usedName = 'quantize.codebook_used';
  const { recipe } = tokenizer;
  const hasMeans = recipe.averageDecay !== undefined;
  const isOwn = last !== undefined && isTrainingOf(last, model.tokenizer, specs, { hasMeans });
  const projections = isOwn ? projectionsIn(last, model.tokenizer) : alignmentWeights(model.tokenizer);
  const all = new Map([...weights, ...projections]);
  await writeOfficialHalf(await folder.place('official', 'tokenizer'), {
    ...toOfficialTokenizerConfig(tokenizer.model),
    weights: new Map([
      ...inOfficialOrder(all.keys()).map((name) => [name, all.get(name) as Weight] as const),
      [usedName, weightFromArray(usedName, [used.length], used)],
    ]),
    key: 'model',
    steps: isOwn ? last.step : recipe.schedule.steps,
    training: isOwn ? tokenizerTraining(last, recipe) : undefined,
    onNotice: model.onNotice,
  });
  if (!model.ar) return;
  const config = { ...tokenModel.model, classes: model.classNames.length };
  const arSpecs = tokenModelParameters(config);
  const lastAr = await folder.last('ar');
  const arHasMeans = tokenModel.recipe.averageDecay !== undefined;
  const isOwnAr = lastAr !== undefined && isTrainingOf(lastAr, model.ar, arSpecs, { hasMeans: arHasMeans });
  const ar = weightsOf(arSpecs, model.ar);
  await writeOfficialHalf(await folder.place('official', 'ar'), {
    config: toOfficialTokenModelConfig(config),
    args: { gpt_type: 'c2i', num_classes: config.classes },
    weights: new Map(inOfficialOrder(ar.keys()).map((name) => [name, ar.get(name) as Weight])),
    key: 'ema',
    steps: isOwnAr ? lastAr.step : tokenModel.recipe.schedule.steps,
    training: isOwnAr ? tokenModelTraining(lastAr, tokenModel.recipe) : undefined,
    onNotice: model.onNotice,
  });
}

/** Writes a half with the state of its training, or without where the file would be too large. */
async function writeOfficialHalf(
  path: string,
  { onNotice, ...contents }: OfficialContents & Pick<TrainedModel, 'onNotice'>,
): Promise<void> {
  const { weights, training } = contents;
  if (training === undefined || fitsCheckpoint(weights, training)) return writeOfficialFolder(path, contents);
  onNotice?.(
    `${path}: without optimisers and discriminator, since with them the file would exceed 4 GiB; the checkpoints of the run have them`,
  );
  return writeOfficialFolder(path, { ...contents, training: undefined });
}

/** The MLPs of the alignment and REPA losses, where there are any: official checkpoints hold them too. */
function projectionsIn({ tensors }: Snapshot, arrays: Arrays): Weights {
  const found = Object.entries(tensors).flatMap(([key, { dims }]) => {
    const name = key.replace(/^param\./, '');
    const values = /^(global_token_proj|projection)\./.test(name) ? arrays.get(name) : undefined;
    return values ? [[name, weightFromArray(name, dims, values)] as const] : [];
  });
  return new Map(found);
}

/** The MLP of the alignment loss of a tokenizer from elsewhere. */
function alignmentWeights(arrays: Arrays): Weights {
  const bias = arrays.get('global_token_proj.4.bias');
  const first = arrays.get('global_token_proj.0.weight');
  const hidden = arrays.get('global_token_proj.0.bias');
  if (!bias || !first || !hidden) return new Map();
  return weightsOf(alignmentSpecs(first.length / hidden.length, bias.length), arrays);
}
