import type { Executable, Tensors } from './backend';
import { checkOptions } from './check-options';
import type { CallOptions } from './models';
import { ofType, Tensor } from './tensor';

/** Images of the first run, and of every one of large images. */
const SLICE = 4;
/** Pixels of a run of smaller images. */
const PIXELS = SLICE * 256 ** 2;

/**
 * Runs a decoder on a few images at a time, 4 of 256 x 256 pixels and more of smaller ones, so that its memory does not grow
 * with the batch; each image is the same in any company.
 * @param executable has an input `input` [B, ...] and an output `pixels` float32 [B, 3, S, S]
 * @param batch what is decoded, [B, ...]
 * @param feeds the other inputs, which all images share
 * @returns images float32 [B, 3, S, S]
 */
export async function decodeInSlices(
  executable: Executable,
  input: string,
  batch: Tensor<'int32'> | Tensor<'float32'>,
  feeds: Tensors = {},
  options: CallOptions = {},
): Promise<Tensor<'float32'>> {
  checkOptions('decodeInSlices', options, { signal: true });
  const { signal } = options;
  const run = async (some: Tensor): Promise<Tensor<'float32'>> =>
    ofType((await executable.run({ ...feeds, [input]: some }, { signal })).pixels, 'float32');
  const [count, ...rest] = batch.dims;
  if (count <= SLICE) return run(batch);
  const size = batch.data.length / count;
  const images: Float32Array[] = [];
  let dims: readonly number[] = [];
  let last = 0;
  for (let first = 0; first < count; first = last) {
    const [, , height, width] = dims;
    const fitting = first === 0 ? SLICE : Math.max(SLICE, Math.floor(PIXELS / (height * width)));
    last = Math.min(count, first + fitting);
    const pixels = await run(sliceOf(batch, first * size, last * size, [last - first, ...rest]));
    images.push(pixels.data);
    dims = [count, ...pixels.dims.slice(1)];
  }
  return new Tensor('float32', joined(images), dims);
}

function sliceOf(
  { type, data }: Tensor<'int32'> | Tensor<'float32'>,
  from: number,
  to: number,
  dims: readonly number[],
): Tensor {
  return type === 'int32'
    ? new Tensor('int32', (data as Int32Array).slice(from, to), dims)
    : new Tensor('float32', (data as Float32Array).slice(from, to), dims);
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
