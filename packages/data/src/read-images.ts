import { checkOptions, DetailFlowError } from '@detailflow/core';
import { centerCrop } from './center-crop';
import { decodeImage } from './decode-image';
import { readNpy } from './npy';
import { checkSize } from './pillow-resize';
import { readFileCapped } from './read-file';
import { imageValues } from './rgb-image';

const MAX_BYTES = 2 ** 28;

/** Images [B, 3, S, S], float32 in [-1, 1]. */
export interface ImageBatch {
  readonly data: Float32Array;
  readonly dims: readonly [number, 3, number, number];
}

/**
 * A PNG, JPEG or WebP file, centre-cropped by {@link centerCrop}: [3, size, size], value = byte / 127.5 - 1.
 * The EXIF orientation is applied, transparency is flattened on black, grey becomes RGB, colour profiles are
 * ignored; of animations the first frame counts.
 * @throws DetailFlowError 'io' when the file cannot be read, 'format' when it is broken, 'unsupported' for
 *   other kinds of images, 'limit' beyond 256 MiB or 100 million pixels
 */
export async function readImage(path: string, size: number): Promise<Float32Array> {
  checkSize(size);
  return imageValues(centerCrop(await decodeImage(await readFileCapped(path, MAX_BYTES), path), size), size);
}

/**
 * Image files as one batch, in the order given. A `.npy` file (float32, [B, 3, S, S] or [3, S, S] in [-1, 1])
 * contributes its images as they are, whatever their side S; any other file is read by {@link readImage}.
 * @throws DetailFlowError as {@link readImage}; 'invalid-argument' without paths; 'shape' when the images are not
 *   all of one size; 'dtype', 'shape' or 'format' for a .npy file that does not hold such images; the reason of
 *   `signal` when it aborts
 */
export async function readImages(
  paths: readonly string[],
  size: number,
  options: { signal?: AbortSignal } = {},
): Promise<ImageBatch> {
  checkOptions('readImages', options, { signal: true });
  checkSize(size);
  if (paths.length === 0) throw new DetailFlowError('invalid-argument', 'no image files given');
  const parts: Pixels[] = [];
  for (const path of paths) {
    options.signal?.throwIfAborted();
    const isArray = path.toLowerCase().endsWith('.npy');
    parts.push(isArray ? await readPixels(path) : { data: await readImage(path, size), side: size });
    const [{ side: first }, { side }] = [parts[0], parts[parts.length - 1]];
    if (side !== first) {
      throw new DetailFlowError(
        'shape',
        `holds images of ${side} pixels a side, others have ${first}: give them in separate calls`,
        { file: path },
      );
    }
  }
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  const [{ side }] = parts;
  return { data, dims: [data.length / (3 * side * side), 3, side, side] };
}

/** Square images [B, 3, side, side]. */
interface Pixels {
  readonly data: Float32Array;
  readonly side: number;
}

/** Beyond this, numbers are certainly no pixels in [-1, 1], even with the overshoot of a decoder. */
const MAX_PIXEL = 16;

async function readPixels(file: string): Promise<Pixels> {
  const { dtype, shape, data } = readNpy(await readFileCapped(file, 2 ** 31), { file });
  if (dtype !== 'float32') {
    throw new DetailFlowError('dtype', `holds ${dtype}; images in .npy files are float32`, { file });
  }
  const [channels, height, width] = shape.slice(-3);
  if (![3, 4].includes(shape.length) || channels !== 3 || height !== width || data.length === 0) {
    throw new DetailFlowError(
      'shape',
      `has shape [${shape.join(', ')}]; images are [B, 3, S, S] or [3, S, S]`,
      {
        file,
      },
    );
  }
  const wrong = data.find((value) => !(Math.abs(value) <= MAX_PIXEL));
  if (wrong !== undefined) {
    throw new DetailFlowError(
      'format',
      `holds ${wrong}; pixels in .npy files lie in [-1, 1] (byte / 127.5 - 1)`,
      { file },
    );
  }
  return { data, side: width };
}
