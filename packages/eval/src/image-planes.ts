import { Tensor } from '@detailflow/core';
import type { ByteImages } from './image-source';

/** Bytes [n, H, W, 3] as values [n, 3, H, W]. */
export function planes(
  { data, count, height, width }: ByteImages,
  value: (byte: number) => number,
): Tensor<'float32'> {
  const table = Float32Array.from({ length: 256 }, (_, byte) => value(byte));
  const plane = height * width;
  const out = new Float32Array(count * 3 * plane);
  for (let i = 0; i < count; i++) {
    for (let at = 0; at < plane; at++) {
      for (let c = 0; c < 3; c++) out[(3 * i + c) * plane + at] = table[data[3 * (i * plane + at) + c]];
    }
  }
  return new Tensor('float32', out, [count, 3, height, width]);
}
