import { resizeImages, Tensor } from '@detailflow/core';
import { clamped } from './token-worth';

/** Images float32 [B, 3, S, S] in [-1, 1] at another side: bicubic without antialiasing, as the official scripts resize them. */
export function resizedBicubic(images: Tensor<'float32'>, side: number): Tensor<'float32'> {
  const [batch, channels, height, width] = images.dims;
  if (height === side && width === side) return images;
  const data = resizeImages(images.data, images.dims, { height: side, width: side }, 'bicubic');
  return new Tensor('float32', clamped(data), [batch, channels, side, side]);
}
