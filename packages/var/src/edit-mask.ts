import { DetailFlowError, Tensor } from '@detailflow/core';
import { places, placesOf, type Scale } from './scales';

/** A part of a picture, each side from 0 (top, left) to 1 (bottom, right). */
export interface Region {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

/** Numbers from 0 to 1 at places of a map, row by row. */
export interface PlaceMask extends Scale {
  readonly data: ArrayLike<number>;
}

/** Scales of up to so many places are kept whole. */
const ALWAYS_KEPT = 3;

/**
 * A mask of the finest map: 1 where tokens stay. `inside` keeps what lies in the region (outpainting), `outside` the rest
 * (inpainting). Borders are rounded half to even.
 * @throws DetailFlowError `invalid-argument` for a region that is not inside the picture
 */
export function regionMask(
  { top, left, bottom, right }: Region,
  { rows, columns }: Scale,
  keeps: 'inside' | 'outside',
): PlaceMask {
  if (!(0 <= top && top <= bottom && bottom <= 1 && 0 <= left && left <= right && right <= 1)) {
    throw new DetailFlowError(
      'invalid-argument',
      `the region is rows ${top} to ${bottom}, columns ${left} to ${right}; give numbers from 0 to 1, top and left first`,
    );
  }
  const [from, to] = [roundHalfEven(top * rows), roundHalfEven(bottom * rows)];
  const [first, last] = [roundHalfEven(left * columns), roundHalfEven(right * columns)];
  const data = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const isInside = row >= from && row < to && column >= first && column < last;
    return Number(isInside === (keeps === 'inside'));
  });
  return { rows, columns, data };
}

/**
 * The places that zero-shot editing keeps, bool [L] for `keep` of the sampler: those where the mask, resized to the scale, is
 * above one half; scales of up to 3 places are kept whole. Source: docs/family/var.md section 3.
 * @param mask 1 at places of the picture that stay, see {@link regionMask}
 */
export function editMask(mask: PlaceMask, scales: readonly Scale[]): Tensor<'bool'> {
  const kept = scales.flatMap((scale) => {
    if (places(scale) <= ALWAYS_KEPT) return Array<number>(places(scale)).fill(1);
    return Array.from(resizedMask(mask, scale), (value) => Number(value > 0.5));
  });
  return new Tensor('bool', Uint8Array.from(kept), [placesOf(scales)]);
}

/**
 * A mask at another size: bilinear, corners not aligned, no antialiasing.
 * @throws DetailFlowError `invalid-argument` for a mask whose numbers do not fit its sides, or lie outside 0 to 1
 */
function resizedMask({ rows, columns, data }: PlaceMask, to: Scale): Float32Array {
  const numbers = Array.from(data);
  if (numbers.length !== rows * columns || !numbers.every((x) => x >= 0 && x <= 1)) {
    throw new DetailFlowError(
      'invalid-argument',
      `the mask has ${numbers.length} numbers for ${rows} x ${columns} places; give one from 0 to 1 for each`,
    );
  }
  const [down, across] = [sources(rows, to.rows), sources(columns, to.columns)];
  return Float32Array.from({ length: places(to) }, (_, i) => {
    const [y, x] = [down[Math.floor(i / to.columns)], across[i % to.columns]];
    const at = (row: number, column: number) => numbers[row * columns + column];
    const upper = at(y.low, x.low) * (1 - x.share) + at(y.low, x.high) * x.share;
    const lower = at(y.high, x.low) * (1 - x.share) + at(y.high, x.high) * x.share;
    return upper * (1 - y.share) + lower * y.share;
  });
}

/** For each place of an axis the two places of the other one that it lies between. */
function sources(from: number, to: number): { low: number; high: number; share: number }[] {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(Math.floor(at), from - 1);
    return { low, high: Math.min(low + 1, from - 1), share: at - low };
  });
}

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}
