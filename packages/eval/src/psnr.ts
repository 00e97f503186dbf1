import { DetailFlowError } from '@detailflow/core';

/**
 * Peak signal-to-noise ratio in dB of images in [-1, 1] (peak to peak 2): -10 log10(mean((x - y)^2) / 4).
 * Values beyond [-1, 1] are clamped first. Equal images give Infinity. The mean runs over everything given:
 * for the mean PSNR of a batch, call it image by image.
 * @throws DetailFlowError 'shape' for different or zero lengths
 */
export function psnr(restored: ArrayLike<number>, original: ArrayLike<number>): number {
  const count = original.length;
  if (count === 0 || restored.length !== count) {
    throw new DetailFlowError('shape', `cannot compare ${restored.length} with ${count} pixel values`);
  }
  let sum = 0;
  for (let i = 0; i < count; i++) sum += (clamp(restored[i]) - clamp(original[i])) ** 2;
  return -10 * Math.log10(sum / count / 4);
}

function clamp(value: number): number {
  return Math.min(1, Math.max(-1, value));
}
