import type { TrainableFamily } from '@detailflow/blocks';
import type { FamilyTrainingConfig } from '../family-config';
import { PlainTokenizerTrainer } from '../plain-tokenizer-trainer';
import { TokenModelTrainer } from '../token-model-trainer';
import { openLossNetworks } from './loss-networks';
import type { RunModels, RunTokenizer, RunTokenModel } from './run-models';
import { runTokenizerTrainer } from './run-tokenizer-trainer';
import { requireSameNetworks, tellOfUnused } from './same-networks';
import { startingParameters } from './starting-parameters';
import { weightsOf } from './weights';

type Models = Pick<FamilyTrainingConfig, 'tokenizer' | 'tokenModel'>;

/** The models of a family, as a run trains them. */
export const familyModels = (models: Models, family: TrainableFamily, file?: string): RunModels => ({
  family: family.family,
  tokenizer: runTokenizer(models, family, file),
  tokenModel: (classes) => runTokenModel(models, family, classes, file),
});

function runTokenizer({ tokenizer }: Models, family: TrainableFamily, file?: string): RunTokenizer {
  const model = family.tokenizer(tokenizer.model, file);
  const { config, specs, ignored, imageSize, tokens, codebookSize, previewCounts } = model;
  const { recipe } = tokenizer;
  const create: RunTokenizer['create'] = (backend, parameters) =>
    model.create({ weights: weightsOf(specs, parameters), backend });
  return {
    ...{ config, specs, ignored, imageSize, tokens, codebookSize, previewCounts },
    async open(run) {
      const { lossNetworks: files = {} } = run.options;
      const { networks, used, close } = await openLossNetworks(
        { tokenizer, imageSize },
        files,
        run.backends[0],
      );
      await requireSameNetworks(run.folder, used);
      tellOfUnused(run.folder, { files, used }, run.options.onNotice);
      const isFresh = (await run.folder.last('tokenizer')) === undefined;
      const parameters = isFresh
        ? await startingParameters('tokenizer', run.options, { config, specs, ignored, optional: [] })
        : undefined;
      const trainer = await PlainTokenizerTrainer.create({
        ...{ model, recipe, networks, backends: run.backends, seed: run.config.seed },
        ...(parameters && { parameters }),
      });
      return runTokenizerTrainer(trainer, { imageSize, close });
    },
    create,
    createRestoring: create,
  };
}

function runTokenModel(
  { tokenizer, tokenModel }: Models,
  family: TrainableFamily,
  classes: number,
  file?: string,
): RunTokenModel {
  const vq = family.tokenizer(tokenizer.model, file);
  const model = family.tokenModel(tokenModel.model, { tokenizer: vq, classes, file });
  const { config, specs, ignored, tokens } = model;
  return {
    ...{ config, specs, ignored, tokens, imageSize: vq.imageSize },
    createTrainer: ({ run, tokenizer: frozen, parameters }) =>
      TokenModelTrainer.create({
        ...{ config: model, recipe: tokenModel.recipe, backends: run.backends, seed: run.config.seed },
        tokenizer: weightsOf(vq.specs, frozen),
        ...(parameters && { parameters }),
      }),
    create: (backend, parameters, frozen) =>
      model.create({
        ...{ weights: weightsOf(specs, parameters), tokenizer: weightsOf(vq.specs, frozen), backend },
      }),
    createTokenizer: (backend, parameters) =>
      model.createTokenizer({ weights: weightsOf(vq.specs, parameters), backend }),
  };
}
