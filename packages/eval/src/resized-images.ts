import { resizeImages, Tensor } from '@detailflow/core';
import { planes } from './image-planes';
import { bytesOf, type ImageSource } from './image-source';
import { clamped } from './token-worth';

/** Images float32 [B, 3, S, S] in [-1, 1] at another side: bicubic without antialiasing, as the official scripts resize them. */
export function resizedBicubic(images: Tensor<'float32'>, side: number): Tensor<'float32'> {
  const [batch, channels, height, width] = images.dims;
  if (height === side && width === side) return images;
  const data = resizeImages(images.data, images.dims, { height: side, width: side }, 'bicubic');
  return new Tensor('float32', clamped(data), [batch, channels, side, side]);
}

/** A source whose images are resized to `side`, if one is given. */
export const resizedSource = (source: ImageSource, side: number | undefined): ImageSource =>
  side === undefined
    ? source
    : {
        ...source,
        name: `${source.name}, resized to ${side}`,
        async read(first, count, options) {
          const bytes = await source.read(first, count, options);
          return bytesOf(
            resizedBicubic(
              planes(bytes, (byte) => byte / 127.5 - 1),
              side,
            ),
          );
        },
      };
