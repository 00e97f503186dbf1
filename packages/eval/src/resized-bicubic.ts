import { DetailFlowError, resizeImages, Tensor } from '@detailflow/core';
import { clamped } from './token-worth';

/**
 * Images float32 [B, 3, S, S] in [-1, 1] at another side: bicubic without antialiasing, as the official scripts resize them.
 * @throws DetailFlowError `shape` for images that are not square, which would be squashed
 */
export function resizedBicubic(images: Tensor<'float32'>, side: number): Tensor<'float32'> {
  const [batch, channels, height, width] = images.dims;
  if (height !== width) {
    throw new DetailFlowError(
      'shape',
      `images are [${images.dims}]; only square ones can be brought to one side`,
    );
  }
  if (height === side) return images;
  const data = resizeImages(images.data, images.dims, { height: side, width: side }, 'bicubic');
  return new Tensor('float32', clamped(data), [batch, channels, side, side]);
}
