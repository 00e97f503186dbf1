import { checkOptions, DetailFlowError, describe, Tensor } from '@detailflow/core';
import { centerCrop } from './center-crop';
import { white } from './colour';
import type { Colour } from './contact-sheet';
import { decodeImage } from './decode-image';
import { readNpy } from './npy';
import { checkSize } from './pillow-resize';
import { readFileCapped } from './read-file';
import { imageValues } from './rgb-image';

const MAX_BYTES = 2 ** 28;
const MAX_ARRAY_BYTES = 2 ** 31;

/** An image file: its path, or its bytes. */
export type ImageFile = string | Uint8Array;

/** How pictures of a person are read. */
export interface ReadImageOptions {
  /** What transparent pixels are laid on, 0 .. 255 a channel; default white. */
  readonly background?: Colour;
}

/**
 * A picture that a person hands over, as {@link decodeImage} reads it, centre-cropped by {@link centerCrop}: [3, size, size],
 * value = byte / 127.5 - 1. It is turned as its EXIF orientation says and laid on the background where it is transparent.
 * @throws DetailFlowError 'io' when the file cannot be read, 'format' when it is broken, 'unsupported' for
 *   other kinds of images, 'limit' beyond 256 MiB or 100 million pixels
 */
export async function readImage(
  file: ImageFile,
  size: number,
  options: ReadImageOptions = {},
): Promise<Float32Array> {
  checkOptions('readImage', options, { background: true });
  checkSize(size);
  return decode(await open(file, 'the image'), size, options);
}

/**
 * Image files as one batch, in the order given, as the `encode` of a model takes them: float32 [B, 3, S, S] in
 * [-1, 1]. A `.npy` file (float32, [B, 3, S, S] or [3, S, S] in [-1, 1])
 * contributes its images as they are, whatever their side S; any other file is read by {@link readImage}.
 * @throws DetailFlowError as {@link readImage}; 'invalid-argument' without files; 'shape' when the images are not
 *   all of one size; 'dtype', 'shape' or 'format' for a .npy file that does not hold such images; the reason of
 *   `signal` when it aborts
 */
export async function readImages(
  files: readonly ImageFile[],
  size: number,
  options: ReadImageOptions & { signal?: AbortSignal } = {},
): Promise<Tensor<'float32'>> {
  checkOptions('readImages', options, { signal: true, background: true });
  checkSize(size);
  if (!Array.isArray(files)) {
    throw new DetailFlowError(
      'invalid-argument',
      `the image files are ${describe(files)}; give a list of paths or of the bytes of files`,
    );
  }
  if (files.length === 0) throw new DetailFlowError('invalid-argument', 'no image files given');
  const parts: Pixels[] = [];
  for (const [i, given] of files.entries()) {
    options.signal?.throwIfAborted();
    const file = await open(given, `image ${i}`);
    parts.push(isArray(file) ? readPixels(file) : { data: await decode(file, size, options), side: size });
    const [{ side: first }, { side }] = [parts[0], parts[parts.length - 1]];
    if (side !== first) {
      throw new DetailFlowError(
        'shape',
        `holds images of ${side} pixels a side, others have ${first}: give them in separate calls`,
        { file: file.name },
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
  return new Tensor('float32', data, [data.length / (3 * side * side), 3, side, side]);
}

interface OpenedFile {
  readonly bytes: Uint8Array;
  /** For messages. */
  readonly name: string;
  readonly isPath: boolean;
}

async function open(file: ImageFile, name: string): Promise<OpenedFile> {
  if (file instanceof Uint8Array) return { bytes: file, name, isPath: false };
  if (typeof file !== 'string') {
    throw new DetailFlowError(
      'invalid-argument',
      `is ${describe(file)}; give the path of a file, or its bytes as a Uint8Array`,
      { file: name },
    );
  }
  const most = file.toLowerCase().endsWith('.npy') ? MAX_ARRAY_BYTES : MAX_BYTES;
  return { bytes: await readFileCapped(file, most), name: file, isPath: true };
}

/** An array by its name, or where there are only bytes by how they begin. */
const isArray = ({ bytes, name, isPath }: OpenedFile): boolean =>
  isPath
    ? name.toLowerCase().endsWith('.npy')
    : bytes[0] === 0x93 && String.fromCharCode(...bytes.subarray(1, 6)) === 'NUMPY';

const decode = async (
  { bytes, name }: OpenedFile,
  size: number,
  { background = white }: ReadImageOptions,
): Promise<Float32Array> =>
  imageValues(centerCrop(await decodeImage(bytes, name, { upright: true, background }), size), size);

/** Square images [B, 3, side, side]. */
interface Pixels {
  readonly data: Float32Array;
  readonly side: number;
}

/** Beyond this, numbers are certainly no pixels in [-1, 1], even with the overshoot of a decoder. */
const MAX_PIXEL = 16;

function readPixels({ bytes, name: file }: OpenedFile): Pixels {
  const { dtype, shape, data } = readNpy(bytes, { file });
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
