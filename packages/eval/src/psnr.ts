import { DetailFlowError } from '@detailflow/core';
import { requireImageRange } from './image-range';

/**
 * Peak signal-to-noise ratio in dB of images in [-1, 1] (peak to peak 2): -10 log10(mean((x - y)^2) / 4).
 * Restored values beyond [-1, 1] are clamped first, as they are in a picture. Equal images give Infinity. The mean runs
 * over everything given: for the mean PSNR of a batch, call it image by image.
 * @throws DetailFlowError 'shape' for different or zero lengths; 'invalid-argument' when a restored value is no number, or an
 *   original one not in [-1, 1]
 */
export function psnr(restored: ArrayLike<number>, original: ArrayLike<number>): number {
  const count = original.length;
  if (count === 0 || restored.length !== count) {
    throw new DetailFlowError('shape', `cannot compare ${restored.length} with ${count} pixel values`);
  }
  requireImageRange(original);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += (clamp(restored[i]) - original[i]) ** 2;
  if (Number.isNaN(sum)) throw new DetailFlowError('invalid-argument', 'a restored value is NaN');
  return -10 * Math.log10(sum / count / 4);
}

function clamp(value: number): number {
  return Math.min(1, Math.max(-1, value));
}
