import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DetailFlowError, type Picture, Tensor } from '@detailflow/core';
import { type NpyArray, readNpy, upscaleNearest, writeNpy } from '@detailflow/data';
import { UsageError } from './command';

/** Writes a file completely or not at all; folders on the way are made. */
async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  const folder = path.dirname(path.resolve(file));
  const aside = path.join(folder, `.${path.basename(file)}.${randomBytes(4).toString('hex')}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(aside, bytes);
    await rename(aside, file);
  } catch (cause) {
    await rm(aside, { force: true }).catch(() => {}); // the first fault is the one to report
    throw new DetailFlowError('io', `cannot be written (${(cause as Error).message})`, { file, cause });
  }
}

/** @param scale how many times larger it is written */
export async function writePicture(file: string, picture: Picture, scale = 1): Promise<void> {
  await writeWhole(file, await upscaleNearest(picture, scale).toPng());
}

export async function writeTensor(file: string, tensor: Tensor): Promise<void> {
  await writeWhole(
    file,
    writeNpy({ data: tensor.data as Float32Array | Int32Array, shape: [...tensor.dims] }),
  );
}

const otherPictures = ['.jpg', '.jpeg', '.webp', '.gif', '.bmp', '.tif', '.tiff', '.avif'];

/**
 * Whether `out` is to become one .png file or a folder of them. Looks before any work is done.
 * @throws UsageError for other formats, DetailFlowError `io` when something else lies there
 */
export async function pictureTarget(out: string): Promise<'file' | 'folder'> {
  const other = otherPictures.find((extension) => hasExtension(out, extension));
  if (other !== undefined) throw new UsageError(`--out "${out}": pictures are written as .png, not ${other}`);
  const kind = hasExtension(out, '.png') ? 'file' : 'folder';
  const there = await stat(out).catch(() => undefined);
  if (there && there.isDirectory() !== (kind === 'folder')) {
    const is = kind === 'folder' ? 'is a file; give a folder, or a name that ends in .png' : 'is a folder';
    throw new DetailFlowError('io', `${is}`, { file: out });
  }
  return kind;
}

const LARGEST_ARRAY = 2 ** 31;

async function readArray(file: string): Promise<NpyArray> {
  try {
    const { size } = await stat(file);
    if (size > LARGEST_ARRAY)
      throw new DetailFlowError('limit', `has ${size} bytes; the limit is ${LARGEST_ARRAY}`, { file });
    return readNpy(await readFile(file), { file });
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError('io', `cannot be read (${(cause as Error).message})`, { file, cause });
  }
}

/** Codes of a .npy file, from 0 to below `limit`: int32 or int64 [B, n], or [n] for one image. */
export async function readCodes(file: string, limit: number): Promise<Tensor<'int32'>> {
  const { dtype, shape, data } = await readArray(file);
  if (dtype !== 'int32' && dtype !== 'int64') {
    throw new DetailFlowError('dtype', `holds ${dtype}; codes are int32 [B, n]`, { file });
  }
  const dims = shape.length === 1 ? [1, ...shape] : shape;
  if (dims.length !== 2 || data.length === 0) {
    throw new DetailFlowError('shape', `has shape [${shape}]; codes are [B, n]`, { file });
  }
  const wrong = (data as Int32Array).find((code) => code < 0 || code >= limit); // bigints compare, too
  if (wrong !== undefined) {
    throw new DetailFlowError('format', `holds ${wrong}; the codes of this model are 0..${limit - 1}`, {
      file,
    });
  }
  const codes = Int32Array.from(data as ArrayLike<number | bigint>, Number);
  return new Tensor('int32', codes, dims);
}

/** Continuous latents of a .npy file: float32 [B, L, d], of a model's own L and d. */
export async function readLatents(
  file: string,
  sizes: readonly [number, number],
): Promise<Tensor<'float32'>> {
  const { dtype, shape, data } = await readArray(file);
  if (
    dtype !== 'float32' ||
    shape.length !== 3 ||
    shape.slice(1).join() !== sizes.join() ||
    data.length === 0
  ) {
    throw new DetailFlowError(
      'dtype',
      `holds ${dtype} [${shape}]; this model has no codes but latents, float32 [B, ${sizes.join(', ')}]`,
      { file },
    );
  }
  return new Tensor('float32', data, shape);
}

/** Exponential draws of a .npy file: float32 [B, N, V]. */
export async function readNoise(file: string): Promise<Tensor<'float32'>> {
  const { dtype, shape, data } = await readArray(file);
  if (dtype !== 'float32' || shape.length !== 3) {
    throw new DetailFlowError('dtype', `holds ${dtype} [${shape}]; noise is float32 [B, N, V]`, { file });
  }
  if (!data.every((e) => e > 0)) {
    throw new DetailFlowError('format', 'holds numbers that are not above 0; noise is drawn from Exp(1)', {
      file,
    });
  }
  return new Tensor('float32', data, shape);
}

/** The last part of a path without its extension. */
export const stem = (file: string): string => path.parse(file).name;

/** Whether a path names a file of this kind, rather than a folder. */
export const hasExtension = (file: string, extension: string): boolean =>
  file.toLowerCase().endsWith(extension);
