import { DetailFlowError, describe } from '@detailflow/core';
import type { RgbImage } from './rgb-image';

const MAX_SIDE = 16384;

/** Throws unless images may have this side. */
export function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > MAX_SIDE) {
    throw new DetailFlowError(
      'invalid-argument',
      `size is ${describe(size)}; it must be an integer in 1 .. ${MAX_SIDE}`,
    );
  }
}

/** An image halved by a box filter while its shorter side has at least twice as many pixels as `side`. */
export function halved(image: RgbImage, side: number): RgbImage {
  let { data, width, height } = image;
  while (Math.min(width, height) >= 2 * side) {
    const [w, h] = [Math.floor(width / 2), Math.floor(height / 2)];
    data = resizeAxis(data, height, 3, width, taps(box, width, w, 0, w));
    data = resizeAxis(data, 1, 3 * w, height, taps(box, height, h, 0, h));
    [width, height] = [w, h];
  }
  return { data, width, height };
}

/** A filter of Pillow: its weight at a distance, and the distance beyond which it is zero. */
export interface Filter {
  readonly support: number;
  weight(x: number): number;
}

const box: Filter = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

/** Keys' cubic with a = -0.5. */
export const bicubic: Filter = {
  support: 2,
  weight(signed) {
    const a = -0.5;
    const x = Math.abs(signed);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  },
};

/** For one output sample: the first source sample that counts, and the weights from there on, times 2^22. */
export interface Taps {
  readonly start: number;
  readonly weights: Int32Array;
}

/** The taps of output samples first .. first + count - 1 when `from` samples become `to`. */
export function taps(filter: Filter, from: number, to: number, first: number, count: number): Taps[] {
  return Array.from({ length: count }, (_, i) => {
    if (from === to) return { start: first + i, weights: Int32Array.of(1 << 22) };
    const scale = from / to;
    const stretch = Math.max(1, scale);
    const centre = (first + i + 0.5) * scale;
    const support = filter.support * stretch;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(end - start);
    let total = 0;
    for (let k = 0; k < weights.length; k++) {
      weights[k] = filter.weight((k + start - centre + 0.5) * (1 / stretch));
      total += weights[k];
    }
    return { start, weights: Int32Array.from(weights, (weight) => roundAway((weight / total) * (1 << 22))) };
  });
}

/** [outer, length, inner] -> [outer, columns.length, inner]. */
export function resizeAxis(
  source: Uint8Array,
  outer: number,
  inner: number,
  length: number,
  columns: readonly Taps[],
): Uint8Array {
  const out = new Uint8Array(outer * columns.length * inner);
  let to = 0;
  for (let o = 0; o < outer; o++) {
    for (const { start, weights } of columns) {
      const from = (o * length + start) * inner;
      for (let i = 0; i < inner; i++) {
        let sum = 1 << 21; // half a unit: rounds the shift below
        for (let k = 0; k < weights.length; k++) sum += weights[k] * source[from + k * inner + i];
        out[to++] = Math.min(255, Math.max(0, sum >> 22));
      }
    }
  }
  return out;
}

/** Rounds halves away from zero. */
function roundAway(value: number): number {
  return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
}

/** Rounds halves to the even neighbour, as Python's round. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
