/** Floating-point numbers of one byte, as safetensors names them. */
export type Float8Format = 'f8_e4m3' | 'f8_e5m2' | 'f8_e8m0' | 'f8_e4m3fnuz' | 'f8_e5m2fnuz';

interface Layout {
  readonly fractionBits: number;
  readonly bias: number;
  /** What the highest exponent and the negative zero stand for. */
  readonly special: 'infinite' | 'all ones' | 'negative zero';
}

const layouts: Readonly<Record<Exclude<Float8Format, 'f8_e8m0'>, Layout>> = {
  f8_e4m3: { fractionBits: 3, bias: 7, special: 'all ones' },
  f8_e5m2: { fractionBits: 2, bias: 15, special: 'infinite' },
  f8_e4m3fnuz: { fractionBits: 3, bias: 8, special: 'negative zero' },
  f8_e5m2fnuz: { fractionBits: 2, bias: 16, special: 'negative zero' },
};

/**
 * The value of each of the 256 bytes. Source: the OCP 8-bit floating point specification (E4M3 has NaN and no infinity),
 * the OCP microscaling specification (E8M0 is a power of two), and for FNUZ ml_dtypes.
 */
export function float8Values(format: Float8Format): Float32Array {
  return Float32Array.from({ length: 256 }, (_, byte) => {
    if (format === 'f8_e8m0') return byte === 255 ? Number.NaN : 2 ** (byte - 127);
    const { fractionBits, bias, special } = layouts[format];
    const sign = byte & 128 ? -1 : 1;
    const exponent = (byte & 127) >> fractionBits;
    const fraction = byte & ((1 << fractionBits) - 1);
    if (special === 'negative zero' && byte === 128) return Number.NaN;
    if (special === 'all ones' && (byte & 127) === 127) return Number.NaN;
    if (special === 'infinite' && exponent === 127 >> fractionBits) {
      return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    }
    const whole = exponent === 0 ? fraction : fraction + (1 << fractionBits);
    return sign * whole * 2 ** (Math.max(exponent, 1) - bias - fractionBits);
  });
}
