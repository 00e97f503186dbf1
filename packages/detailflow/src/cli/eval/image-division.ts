import type { BundleCard } from '@detailflow/checkpoint';
import {
  type CenterViewOptions,
  type HoldOutRecord,
  type HoldOutRule,
  holdOutRecord,
  parseColour,
  parseHoldOutRecord,
} from '@detailflow/data';
import { type OpenedDataset, openDataset } from '@detailflow/data/node';
import { UsageError } from '../command';
import type { Values } from '../values';

/** What a model says of the images that it was trained with. */
interface TrainedWith {
  readonly fit?: 'crop' | 'pad';
  readonly background?: string;
  readonly heldOut?: HoldOutRecord;
}

/** Where a model does not say: 5 %, by a seed. */
const unknown: HoldOutRule = { share: 0.05, seed: 0 };

/** Images for an evaluation, held out as in the training of the model, and what is to be said about that. */
export interface DividedImages extends OpenedDataset {
  readonly note?: string;
}

/** How an evaluation looks at images: as the training of the model did, unless the command line says otherwise. */
export interface ImageDivision {
  readonly view: Pick<CenterViewOptions, 'fit' | 'background'>;
  /** Opens a data set and divides it. @throws DetailFlowError as `openDataset` */
  open(data: string): Promise<DividedImages>;
}

/**
 * @param card of the model; without one images are as they are in any data set
 * @throws DetailFlowError `config` when the card is wrong
 */
export function imageDivision(values: Values, card?: BundleCard): ImageDivision {
  const trained = trainedWith(card);
  const fit = values.choice('fit', ['crop', 'pad'] as const) ?? trained.fit ?? 'crop';
  const text = values.text('background') ?? trained.background ?? 'white';
  let background: CenterViewOptions['background'];
  try {
    background = parseColour(text);
  } catch (error) {
    throw new UsageError(`--background: ${(error as Error).message}`);
  }
  return {
    view: { fit, background },
    async open(data) {
      const rule = trained.heldOut?.rule ?? unknown;
      const { share: heldOut, seed, groupBy } = rule;
      const opened = await openDataset(data, { heldOut, seed, groupBy, background });
      const note = await noteOf(opened, trained.heldOut, data);
      return { ...opened, ...(note !== undefined && { note }) };
    },
  };
}

async function noteOf(opened: OpenedDataset, trained: HoldOutRecord | undefined, data: string) {
  if (!trained) {
    return opened.whole
      ? `the model does not say which images it was trained with: of ${data}, 5 % by seed 0 count as held out, and it may have seen some of them`
      : undefined;
  }
  const found = await holdOutRecord(opened);
  if (found.digest === trained.digest) return undefined;
  const counts = `${found.images} images, ${found.heldOut} held out; then ${trained.images} and ${trained.heldOut}`;
  return `${data} is not what the model was trained with (${counts}): if some of it is, it may have been trained on`;
}

/** What stands in the card under `data`. */
function trainedWith(card: BundleCard | undefined): TrainedWith {
  const data = card?.data;
  if (!data) return {};
  const { fit, background, heldOut } = data;
  return {
    ...((fit === 'crop' || fit === 'pad') && { fit }),
    ...(typeof background === 'string' && { background }),
    ...(heldOut !== undefined && {
      heldOut: parseHoldOutRecord(heldOut, { file: 'config.json', entry: 'data.heldOut' }),
    }),
  };
}
