import { DetailFlowError, describe } from '@detailflow/core';
import type { ResolutionMap } from './resolution-map';

/** Sizes of images that a tokenizer encodes, ascending: those of its list whose tokens are enough for the encoder. */
export const encodedSizes = (map: ResolutionMap): number[] =>
  map.bestResolutions.filter((size) => canEncode(map, size));

const canEncode = (map: ResolutionMap, size: number): boolean => {
  const tokens = map.decResToBestToken.get(size) ?? 0;
  return tokens >= map.causalNum && tokens % map.groupSize === 0;
};

/**
 * How many tokens an image of `size` pixels has (`decres2besttoken`).
 * @throws DetailFlowError `invalid-argument` when the size is not on the tokenizer's list: names the nearest that are
 */
export function tokensOfSize(map: ResolutionMap, size: number): number {
  if (canEncode(map, size)) return map.decResToBestToken.get(size) as number;
  const sizes = encodedSizes(map);
  const below = sizes.findLast((one) => one < size);
  const above = sizes.find((one) => one > size);
  const nearest = [below, above].filter((one) => one !== undefined);
  throw new DetailFlowError(
    'invalid-argument',
    `this tokenizer knows no number of tokens for images of ${describe(size)} pixels; the nearest ${nearest.length > 1 ? 'sizes are' : 'size is'} ${nearest.join(' and ')}`,
  );
}
