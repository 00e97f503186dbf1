import { DetailFlowError } from '@detailflow/core';

/**
 * @param features [n, width]
 * @param noun what a value is, for the message
 * @throws DetailFlowError `invalid-argument` when one is no finite number, naming its place; `shape` when they make no rows
 */
export function requireFinite(features: ArrayLike<number>, width: number, noun = 'feature'): void {
  if (!Number.isInteger(features.length / width)) {
    throw new DetailFlowError('shape', `${features.length} ${noun}s do not make rows of ${width}`);
  }
  for (let i = 0; i < features.length; i++) {
    if (Number.isFinite(features[i])) continue;
    throw new DetailFlowError(
      'invalid-argument',
      `${noun} ${i % width} of row ${Math.floor(i / width)} is ${features[i]}; ${noun}s must be finite`,
    );
  }
}
