import type { Executable, Tensors } from './backend';
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
  signal?: AbortSignal,
): Promise<Tensor<'float32'>> {
  const { data, dims, type } = batch;
  const [count, ...rest] = dims;
  let all: Tensor<'float32'> | undefined;
  let [first, slice] = [0, SLICE];
  do {
    const values = data.slice((first * data.length) / count, ((first + slice) * data.length) / count);
    const some = new Tensor(type, values as Float32Array, [Math.min(slice, count - first), ...rest]);
    const results = await executable.run({ ...feeds, [input]: some }, { signal });
    const pixels = ofType(results.pixels, 'float32');
    if (count <= SLICE) return pixels;
    const [taken, ...image] = pixels.dims;
    const size = pixels.data.length / taken;
    all ??= new Tensor('float32', new Float32Array(count * size), [count, ...image]);
    all.data.set(pixels.data, first * size);
    first += taken;
    slice = Math.max(SLICE, Math.floor((PIXELS * image[0]) / size));
  } while (first < count);
  return all;
}
