import { DetailFlowError } from '@detailflow/core';

/** Beyond 1 by rounding, or by the overshoot of a resize that was not cut. */
const MOST = 1.001;

/**
 * Originals in another range would be compared as nonsense: bytes, cut to 1, are all alike.
 * @throws DetailFlowError `invalid-argument` when a value is not in [-1, 1]
 */
export function requireImageRange(original: ArrayLike<number>): void {
  for (let i = 0; i < original.length; i++) {
    if (Math.abs(original[i]) <= MOST) continue;
    throw new DetailFlowError(
      'invalid-argument',
      `value ${i} of the original is ${original[i]}; images must be in [-1, 1], bytes as byte / 127.5 - 1`,
    );
  }
}
