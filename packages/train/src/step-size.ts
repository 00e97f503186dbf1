import { checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import { type ResolutionMap, tokensOfSize } from '@detailflow/tokenizer';
import { Purpose } from './purpose';

/** Training with images of many sizes. Sides of square images in pixels. */
export interface SizeRecipe {
  /** Of steps for which no other size is drawn (`image_size`). */
  readonly imageSize: number;
  /** Bounds of the sizes that are drawn (`min_image_size`, `dynamic_max_image_size`). */
  readonly minSize: number;
  readonly maxSize: number;
  /** Probability of a step with a drawn size (`dynamic_resolution_prob`). */
  readonly probability: number;
  /** Probability of a step with the largest one (`max_resolution_prob`). */
  readonly maxProbability: number;
  /** Take fewer images of large sizes (`adjust_bs_by_resolution`). */
  readonly adjustBatch: boolean;
}

/** Images of a step. */
export interface StepImages {
  /** Side in pixels, S. */
  readonly size: number;
  /** Tokens that an image of this size has, n. */
  readonly tokens: number;
}

/** The size to which images are cropped before a step brings them to its own. */
export const cropSize = ({ imageSize, maxSize, probability, maxProbability }: SizeRecipe): number =>
  probability > 0 || maxProbability > 0 ? maxSize : imageSize;

/** A draw outside the bounds is made again, at most so often. */
const MOST_DRAWS = 100;

/**
 * Draws the size of a step: with `probability` the size of the list that is nearest to a whole number from minSize to maxSize,
 * with `maxProbability` maxSize, else imageSize.
 * @throws DetailFlowError `config` when no size of the list lies between the bounds; as {@link tokensOfSize}
 */
export function drawStepImages(
  map: ResolutionMap,
  recipe: SizeRecipe,
  at: { readonly seed: number; readonly step: number },
): StepImages {
  checkOptions('drawStepImages', at, { seed: true, step: true });
  const { imageSize, minSize, maxSize, probability, maxProbability } = recipe;
  const random = new RandomStream({ seed: at.seed, purpose: Purpose.size, position: at.step });
  const kind = random.uniform();
  const of = (size: number) => ({ size, tokens: tokensOfSize(map, size) });
  if (kind >= probability || minSize >= maxSize) {
    return of(kind < probability + maxProbability ? maxSize : imageSize);
  }
  for (let draw = 0; draw < MOST_DRAWS; draw++) {
    const size = nearestSize(map, minSize + random.integer(maxSize - minSize + 1), recipe);
    if (size !== undefined) return of(size);
  }
  throw new DetailFlowError('config', `no size of the list lies between ${minSize} and ${maxSize} pixels`);
}

/** The size that a drawn number stands for; undefined where it is drawn again. */
export function nearestSize(
  map: ResolutionMap,
  drawn: number,
  { minSize, maxSize }: Pick<SizeRecipe, 'minSize' | 'maxSize'>,
): number | undefined {
  const size = map.findClosestResolution(drawn);
  return size >= minSize && size <= maxSize ? size : undefined;
}

/** How many images of a batch stay in a step of images of `size` pixels. */
export function keptImages(
  batch: number,
  size: number,
  { adjustBatch }: Pick<SizeRecipe, 'adjustBatch'>,
): number {
  if (!adjustBatch) return batch;
  if (size > 480 && size <= 512) return Math.trunc(0.5 * batch);
  return size >= 384 && size <= 480 ? Math.trunc(0.6 * batch) : batch;
}

/** The largest micro-batch up to `most` that divides a batch. */
export function dividingBatch(batch: number, most: number): number {
  for (let size = Math.min(most, batch); size > 1; size--) if (batch % size === 0) return size;
  return 1;
}

/**
 * Every size that a recipe can draw must be on the tokenizer's list.
 * @throws DetailFlowError `invalid-argument` naming a size that is not, and the nearest that are; `config` for impossible bounds
 */
export function checkSizes(map: ResolutionMap, recipe: SizeRecipe, batch: number): void {
  const { imageSize, minSize, maxSize, probability, maxProbability } = recipe;
  const fail = (message: string, entry?: keyof SizeRecipe) =>
    new DetailFlowError('config', message, { entry });
  const requireOnList = (entry: 'imageSize' | 'maxSize') => {
    try {
      tokensOfSize(map, recipe[entry]);
    } catch (cause) {
      if (!DetailFlowError.isInstance(cause)) throw cause;
      throw new DetailFlowError(cause.code, cause.message, { entry, cause });
    }
  };
  if (probability + maxProbability > 1) {
    throw fail(
      `the probabilities ${probability} and ${maxProbability} are more than 1 together`,
      'maxProbability',
    );
  }
  if (minSize > maxSize || imageSize > maxSize || maxSize > map.maxImageSize) {
    throw fail(
      `sizes must be minSize (${minSize}) <= maxSize (${maxSize}) <= the tokenizer's ${map.maxImageSize}, and imageSize (${imageSize}) at most maxSize`,
      'maxSize',
    );
  }
  if (probability + maxProbability < 1) requireOnList('imageSize');
  const draws = probability > 0 && minSize < maxSize;
  if (maxProbability > 0 || (probability > 0 && !draws)) requireOnList('maxSize');
  const drawn = map.bestResolutions.filter((size) => size >= minSize && size <= maxSize);
  if (draws && drawn.length === 0)
    throw fail(`no size of the list lies between ${minSize} and ${maxSize} pixels`);
  for (const size of draws ? drawn : []) tokensOfSize(map, size);
  if (keptImages(batch, maxSize, recipe) < 1)
    throw fail(`a batch of ${batch} leaves no image of ${maxSize} pixels`);
}
