import { readFile, stat } from 'node:fs/promises';
import { DetailFlowError } from '@detailflow/core';
import { readNpy } from './npy';

/** An RGB image of 8 bits a channel, [height, width, 3]. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Images [B, 3, S, S], float32 in [-1, 1]. */
export interface ImageBatch {
  readonly data: Float32Array;
  readonly dims: readonly [number, 3, number, number];
}

/**
 * The centre crop of ADM (guided-diffusion), to a square of `size` pixels: halved by a box filter while twice
 * too large, then bicubic to a shorter side of `size`, then the middle. Equals Pillow's `Image.resize` bit for
 * bit, its fixed-point rounding included. Only the pixels that stay are computed.
 * Source: docs/method.md section 5; Pillow's libImaging/Resample.c for the arithmetic.
 * @throws DetailFlowError 'shape' when data and sides disagree, 'invalid-argument' for a bad size
 */
export function centerCrop(image: RgbImage, size: number): RgbImage {
  checkSize(size);
  if (!(image.width > 0 && image.height > 0) || image.data.length !== image.width * image.height * 3) {
    throw new DetailFlowError(
      'shape',
      `${image.data.length} bytes do not make a ${image.width} x ${image.height} RGB image`,
    );
  }
  let { data, width, height } = image;
  while (Math.min(width, height) >= 2 * size) {
    const [w, h] = [Math.floor(width / 2), Math.floor(height / 2)];
    data = resizeAxis(data, height, 3, width, taps(box, width, w, 0, w));
    data = resizeAxis(data, 1, 3 * w, height, taps(box, height, h, 0, h));
    [width, height] = [w, h];
  }
  const scale = size / Math.min(width, height);
  const [w, h] = [roundHalfEven(width * scale), roundHalfEven(height * scale)];
  const left = Math.floor((w - size) / 2);
  const top = Math.floor((h - size) / 2);
  data = resizeAxis(data, height, 3, width, taps(bicubic, width, w, left, size));
  data = resizeAxis(data, 1, 3 * size, height, taps(bicubic, height, h, top, size));
  return { data, width: size, height: size };
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
  const { data } = centerCrop(await decode(await readBytes(path), path), size);
  const plane = size * size;
  const pixels = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) pixels[c * plane + i] = data[3 * i + c] / 127.5 - 1;
  }
  return pixels;
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

const MAX_SIDE = 16384;
const MAX_BYTES = 2 ** 28;
const MAX_PIXELS = 1e8;
/** First bytes, in hexadecimal, of PNG, JPEG and WebP; and of GIF, TIFF, BMP, AVIF and its like, SVG. */
const readable = /^(?:89504e470d0a1a0a|ffd8ff|52494646.{8}57454250)/;
const otherKinds = /^(?:47494638|49492a00|4d4d002a|424d|.{8}66747970|(?:09|0a|0d|20)*3c)/;

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > MAX_SIDE) {
    throw new DetailFlowError(
      'invalid-argument',
      `size is ${size}; it must be an integer in 1 .. ${MAX_SIDE}`,
    );
  }
}

async function readBytes(file: string, limit = MAX_BYTES): Promise<Uint8Array> {
  try {
    const stats = await stat(file);
    if (!stats.isFile()) throw new DetailFlowError('io', 'is not a regular file', { file });
    const { size } = stats;
    if (size > limit) {
      throw new DetailFlowError('limit', `has ${size} bytes; the limit is ${limit}`, { file });
    }
    return await readFile(file);
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DetailFlowError('io', `cannot be read (${reason})`, { file, cause });
  }
}

async function decode(bytes: Uint8Array, file: string): Promise<RgbImage> {
  // The library would try every decoder it has (SVG, PDF, ...) on a file; only three of them are wanted.
  const head = Buffer.from(bytes.subarray(0, 16)).toString('hex');
  if (!readable.test(head)) {
    throw otherKinds.test(head)
      ? new DetailFlowError('unsupported', 'is another kind of image; readable are PNG, JPEG and WebP', {
          file,
        })
      : new DetailFlowError('format', 'is no image: neither PNG nor JPEG nor WebP', { file });
  }
  try {
    const { default: sharp } = await import('sharp'); // a large native library: only where it is needed
    const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false });
    const { width, height } = await image.metadata();
    if (width * height > MAX_PIXELS) {
      throw new DetailFlowError(
        'limit',
        `has ${width} x ${height} pixels; the limit is ${MAX_PIXELS}: shrink it first`,
        { file },
      );
    }
    const { data, info } = await image
      .rotate()
      .flatten({ background: '#000' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DetailFlowError('format', `is no image that can be decoded (${reason})`, { file, cause });
  }
}

/** Square images [B, 3, side, side]. */
interface Pixels {
  readonly data: Float32Array;
  readonly side: number;
}

/** Beyond this, numbers are certainly no pixels in [-1, 1], even with the overshoot of a decoder. */
const MAX_PIXEL = 16;

async function readPixels(file: string): Promise<Pixels> {
  const { dtype, shape, data } = readNpy(await readBytes(file, 2 ** 31), { file });
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

/** A filter of Pillow: its weight at a distance, and the distance beyond which it is zero. */
interface Filter {
  readonly support: number;
  weight(x: number): number;
}

const box: Filter = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

const bicubic: Filter = {
  support: 2,
  weight(signed) {
    const a = -0.5;
    const x = Math.abs(signed);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  },
};

/** For one output sample: the first source sample that counts, and the weights from there on, times 2^22. */
interface Taps {
  readonly start: number;
  readonly weights: Int32Array;
}

/** The taps of output samples first .. first + count - 1 when `from` samples become `to`. */
function taps(filter: Filter, from: number, to: number, first: number, count: number): Taps[] {
  return Array.from({ length: count }, (_, i) => {
    if (from === to) return { start: first + i, weights: Int32Array.of(1 << 22) };
    const scale = from / to;
    const stretch = Math.max(1, scale);
    const centre = (first + i + 0.5) * scale;
    const support = filter.support * stretch;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(end - start);
    let total = 0;
    for (let k = 0; k < weights.length; k++) {
      weights[k] = filter.weight((k + start - centre + 0.5) * (1 / stretch));
      total += weights[k];
    }
    return { start, weights: Int32Array.from(weights, (weight) => roundAway((weight / total) * (1 << 22))) };
  });
}

/** [outer, length, inner] -> [outer, columns.length, inner]. */
function resizeAxis(
  source: Uint8Array,
  outer: number,
  inner: number,
  length: number,
  columns: readonly Taps[],
): Uint8Array {
  const out = new Uint8Array(outer * columns.length * inner);
  let to = 0;
  for (let o = 0; o < outer; o++) {
    for (const { start, weights } of columns) {
      const from = (o * length + start) * inner;
      for (let i = 0; i < inner; i++) {
        let sum = 1 << 21; // half a unit: rounds the shift below
        for (let k = 0; k < weights.length; k++) sum += weights[k] * source[from + k * inner + i];
        out[to++] = Math.min(255, Math.max(0, sum >> 22));
      }
    }
  }
  return out;
}

/** Rounds halves away from zero. */
function roundAway(value: number): number {
  return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
}

/** Rounds halves to the even neighbour, as Python's round. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
