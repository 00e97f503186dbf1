import { Tensor } from '@detailflow/core';

/** Targets for as many images as were restored: a second time for the corrected ones. */
export function repeated(target: Tensor, { dims, data: { length } }: Tensor): Tensor {
  if (target.data.length === length) return target;
  const data = new Float32Array(length);
  for (let at = 0; at < length; at += target.data.length) data.set(target.data as Float32Array, at);
  return new Tensor('float32', data, dims);
}

/** One array of all. */
export function joined(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
