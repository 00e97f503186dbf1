import { Tensor } from '@detailflow/core';
import type { WireTensor } from './protocol';

/** A view of its own memory only: sending a part of a buffer to another thread copies the whole buffer. */
function wholeBuffer<T extends Float32Array | Int32Array | Uint8Array>(data: T): T {
  return data.byteLength < data.buffer.byteLength ? (data.slice() as T) : data;
}

/** A tensor as it crosses the thread boundary. */
export function fromTensor({ type, data, dims }: Tensor): WireTensor {
  return { type: type as WireTensor['type'], data: wholeBuffer(data as Float32Array), dims };
}

/** What came across. */
export function toTensor({ type, data, dims }: WireTensor): Tensor {
  return new Tensor(type as 'float32', data as Float32Array, dims);
}
