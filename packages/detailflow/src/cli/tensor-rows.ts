import { Tensor } from '@detailflow/core';

/** Rows first .. first + count - 1 of a tensor [B, ...]. */
export function sliceRows(tensor: Tensor, first: number, count: number): Tensor {
  const [rows, ...rest] = tensor.dims;
  const width = tensor.data.length / rows;
  const data = (tensor.data as Float32Array).slice(first * width, (first + count) * width);
  return new Tensor(tensor.type as 'float32', data, [count, ...rest]);
}

/** Consecutive rows of a tensor [B, ...], at most `size` at once. */
export function* rowChunks(tensor: Tensor, size: number): Generator<Tensor> {
  const [rows] = tensor.dims;
  for (let at = 0; at < rows; at += size) yield sliceRows(tensor, at, Math.min(size, rows - at));
}

/** Tensors [b, ...] of equal rows, one after the other: [B, ...]. */
export function joinRows(parts: readonly Tensor[]): Tensor {
  const [{ type, dims, data }] = parts;
  const rows = parts.reduce((sum, part) => sum + part.dims[0], 0);
  const Data = data.constructor as new (length: number) => Float32Array;
  const all = new Data(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part.data as Float32Array, at);
    at += part.data.length;
  }
  return new Tensor(type as 'float32', all, [rows, ...dims.slice(1)]);
}
