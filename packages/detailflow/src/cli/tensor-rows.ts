import { Tensor, type TensorData, type TensorType } from '@detailflow/core';

/** Rows first .. first + count - 1 of a tensor [B, ...]. */
export function sliceRows<T extends TensorType>(tensor: Tensor<T>, first: number, count: number): Tensor<T> {
  const [rows, ...rest] = tensor.dims;
  const width = tensor.data.length / rows;
  const data = tensor.data.slice(first * width, (first + count) * width) as TensorData<T>;
  return new Tensor(tensor.type as T, data, [count, ...rest]);
}

/** Consecutive rows of a tensor [B, ...], at most `size` at once. */
export function* rowChunks<T extends TensorType>(tensor: Tensor<T>, size: number): Generator<Tensor<T>> {
  const [rows] = tensor.dims;
  for (let at = 0; at < rows; at += size) yield sliceRows(tensor, at, Math.min(size, rows - at));
}

/** Tensors [b, ...] of equal rows, one after the other: [B, ...]. */
export function joinRows<T extends TensorType>(parts: readonly Tensor<T>[]): Tensor<T> {
  const [{ type, dims, data }] = parts;
  const rows = parts.reduce((sum, part) => sum + part.dims[0], 0);
  const Data = data.constructor as new (length: number) => TensorData<T>;
  const all = new Data(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part.data, at);
    at += part.data.length;
  }
  return new Tensor(type as T, all, [rows, ...dims.slice(1)]);
}
