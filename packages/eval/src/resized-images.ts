import { planes } from './image-planes';
import { bytesOf, type ImageSource } from './image-source';
import { resizedBicubic } from './resized-bicubic';

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
