import {
  type TokenModelConfig,
  tokenModelParameters,
  toOfficialTokenModelConfig,
} from '@detailflow/ar-model';
import type { ConfigObject } from '@detailflow/checkpoint';
import { writeBundle, writeOfficialFolder } from '@detailflow/checkpoint/node';
import { type Weights, weightFromArray } from '@detailflow/core';
import { type Colour, colourText, type HoldOutRecord } from '@detailflow/data';
import { tokenizerParameters, toOfficialTokenizerConfig } from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { alignmentSpecs } from '../losses/alignment';
import type { DataConfig, TrainingConfig } from '../training-config';
import type { RunFolder } from './run-folder';
import { weightsOf } from './weights';

/** How many codes the official layout remembers. */
const RECENT_CODES = 65536;

/** A trained model, or its first half. */
export interface TrainedModel {
  readonly tokenizer: Arrays;
  readonly ar?: { readonly config: TokenModelConfig; readonly parameters: Arrays };
  readonly classNames: readonly string[];
  /** The data set. */
  readonly trainedOn: string;
  /** Which images were held out. */
  readonly heldOut: HoldOutRecord;
}

/** Writes a model into the folder of its run: as a bundle, and in the layout of the official scripts. */
export async function writeModel(
  folder: RunFolder,
  { name, data, tokenizer, tokenModel }: TrainingConfig,
  model: TrainedModel,
): Promise<void> {
  const { classNames, trainedOn, heldOut } = model;
  const weights = weightsOf(tokenizerParameters(tokenizer.model), model.tokenizer);
  const ar = model.ar && {
    config: model.ar.config,
    weights: weightsOf(tokenModelParameters(model.ar.config), model.ar.parameters),
  };
  await writeBundle(
    await folder.place('bundle'),
    {
      ...{ name, license: 'unknown', classNames, description: `Trained on ${trainedOn}` },
      data: dataOf(data, heldOut),
      tokenizer: { config: asConfig(tokenizer.model), weights },
      ...(ar && { ar: { config: asConfig(ar.config), weights: ar.weights } }),
    },
    { overwrite: true },
  );
  // The official programs know no mixtures of codes.
  if (tokenizer.model.mixture) return;
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
  if (!ar) return;
  await writeOfficialFolder(await folder.place('official', 'ar'), {
    config: toOfficialTokenModelConfig(ar.config),
    args: { gpt_type: 'c2i', num_classes: ar.config.classes },
    weights: ar.weights,
    key: 'ema',
    steps: tokenModel.recipe.schedule.steps,
  });
}

/** What a bundle says of the images of its training. */
export const dataOf = (data: ConfigObject | DataConfig, heldOut: HoldOutRecord): ConfigObject => ({
  fit: data.fit,
  background: Array.isArray(data.background) ? colourText(data.background as unknown as Colour) : 'white',
  heldOut: { ...heldOut },
});

/** The MLP of the alignment loss, where there is one: official checkpoints hold it too. */
function alignmentWeights(arrays: Arrays): Weights {
  const bias = arrays.get('global_token_proj.4.bias');
  const first = arrays.get('global_token_proj.0.weight');
  const hidden = arrays.get('global_token_proj.0.bias');
  if (!bias || !first || !hidden) return new Map();
  return weightsOf(alignmentSpecs(first.length / hidden.length, bias.length), arrays);
}

const asConfig = (config: object) => config as ConfigObject;
