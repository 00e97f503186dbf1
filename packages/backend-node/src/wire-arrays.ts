import type { WireTensor } from './protocol';

/** Arrays by type. */
export const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

/** Zeros in memory that can be given back at once. */
export function newArray(type: WireTensor['type'], length: number): WireTensor['data'] {
  const bytes = length * arrays[type].BYTES_PER_ELEMENT;
  return new arrays[type](new ArrayBuffer(bytes, { maxByteLength: bytes }), 0, length);
}

/** Gives the memory of an array back, and does not wait for the garbage collector to see how much it is. */
export function dropArray({ buffer }: WireTensor['data']): void {
  if (buffer instanceof ArrayBuffer && buffer.resizable) buffer.resize(0);
}
