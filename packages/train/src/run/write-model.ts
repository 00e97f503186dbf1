import type { ConfigObject } from '@detailflow/checkpoint';
import { writeBundle } from '@detailflow/checkpoint/node';
import { type Colour, colourText, type HoldOutRecord } from '@detailflow/data';
import type { Arrays } from '../initialise';
import type { CommonConfig, DataConfig } from '../training-config';
import type { RunFolder } from './run-folder';
import type { RunModels, RunNetwork } from './run-models';
import { weightsOf } from './weights';

/** A trained model, or its first half. */
export interface TrainedModel {
  readonly tokenizer: Arrays;
  readonly ar?: Arrays;
  readonly classNames: readonly string[];
  /** The data set. */
  readonly trainedOn: string;
  /** Which images were held out. */
  readonly heldOut: HoldOutRecord;
  /** Takes one-line notices. */
  readonly onNotice?: (message: string) => void;
}

/** Writes a model into the folder of its run: as a bundle, and in the layout of the official scripts where it has one. */
export async function writeModel(
  folder: RunFolder,
  { name, data }: Pick<CommonConfig, 'name' | 'data'>,
  models: RunModels,
  model: TrainedModel,
): Promise<void> {
  const { classNames, trainedOn, heldOut, tokenizer, ar } = model;
  const { family } = models;
  await writeBundle(
    await folder.place('bundle'),
    {
      ...(family !== undefined && { family }),
      ...{ name, license: 'unknown', classNames, description: `Trained on ${trainedOn}` },
      data: dataOf(data, heldOut),
      tokenizer: halfOf(models.tokenizer, tokenizer),
      ...(ar && { ar: halfOf(models.tokenModel(classNames.length), ar) }),
    },
    { overwrite: true },
  );
  await models.writeOfficial?.(folder, model);
}

/** One half of a bundle. */
export const halfOf = ({ config, specs }: RunNetwork, parameters: Arrays) => ({
  config: config as ConfigObject,
  weights: weightsOf(specs, parameters),
});

/** What a bundle says of the images of its training. */
export const dataOf = (data: ConfigObject | DataConfig, heldOut: HoldOutRecord): ConfigObject => ({
  fit: data.fit,
  background: Array.isArray(data.background) ? colourText(data.background as unknown as Colour) : 'white',
  heldOut: { ...heldOut },
});
