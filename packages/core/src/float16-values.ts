/** The values of IEEE halves, two bytes each, little-endian. */
export function float16Values(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bytes.length / 2);
  const bits = new Int32Array(values.buffer);
  for (let i = 0; i < values.length; i++) {
    const half = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    // At their places in a float32, bits of a half are its value over 2 ** 112, but for infinities and NaN.
    bits[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13);
    values[i] *= 2 ** 112;
    if ((half & 0x7c00) === 0x7c00) bits[i] |= 0x7f800000;
  }
  return values;
}
