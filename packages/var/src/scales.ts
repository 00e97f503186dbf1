import { DetailFlowError } from '@detailflow/core';

/** Rows and columns of a map of codes. */
export interface Scale {
  readonly rows: number;
  readonly columns: number;
}

/** A scale as users and configurations write it: the side of a square, or rows and columns. */
export type ScaleLike = number | readonly [number, number] | Scale;

/** Far beyond any released list; bounds what a broken setting can ask for. */
const MOST_SCALES = 64;
const LARGEST_SIDE = 128;

/**
 * A list of scales from plain data: a side, or rows and columns, each.
 * @throws DetailFlowError `config` for a list that no picture can be drawn along
 */
export function parseScales(list: readonly ScaleLike[], file?: string): Scale[] {
  const fail = (): never => {
    throw new DetailFlowError(
      'config',
      `the scales are ${JSON.stringify(list)?.slice(0, 200)}; give 1 to ${MOST_SCALES} sides (or [rows, columns]) from 1 to ${LARGEST_SIDE}`,
      { file },
    );
  };
  if (!Array.isArray(list) || list.length < 1 || list.length > MOST_SCALES) fail();
  return list.map((one) => {
    const pair = pairOf(one);
    const isSide = (side: unknown) =>
      typeof side === 'number' && Number.isInteger(side) && side >= 1 && side <= LARGEST_SIDE;
    if (pair.length !== 2 || !pair.every(isSide)) fail();
    return { rows: pair[0] as number, columns: pair[1] as number };
  });
}

function pairOf(one: unknown): readonly unknown[] {
  if (Array.isArray(one)) return one;
  if (typeof one !== 'object' || one === null) return [one, one];
  const { rows, columns } = one as Partial<Scale>;
  return [rows, columns];
}

/** Codes of a scale. */
export const places = ({ rows, columns }: Scale): number => rows * columns;

/** Codes of all scales, L. */
export const placesOf = (scales: readonly Scale[]): number =>
  scales.reduce((sum, one) => sum + places(one), 0);

/** Where each scale begins among the codes of all. */
export function scaleStarts(scales: readonly Scale[]): number[] {
  let start = 0;
  return scales.map((one) => {
    const at = start;
    start += places(one);
    return at;
  });
}

/** Whether no scale has more rows or columns than another one. */
const fitsInto = (a: Scale, b: Scale): boolean => a.rows <= b.rows && a.columns <= b.columns;

/** The first scale that is not larger than the one before it: no side falls, and one at least grows. */
const firstNotGrown = (scales: readonly Scale[]): number =>
  scales.findIndex(
    (one, k) => k > 0 && (!fitsInto(scales[k - 1], one) || places(one) <= places(scales[k - 1])),
  );

/** Whether every scale is larger than the one before it. */
export const isGrowing = (scales: readonly Scale[]): boolean => firstNotGrown(scales) < 0;

/**
 * Residual coding goes from coarse to fine: a scale codes what all coarser ones left over.
 * @throws DetailFlowError `config`
 */
export function requireGrowing(scales: readonly Scale[], file?: string): void {
  const k = firstNotGrown(scales);
  if (k < 0) return;
  throw new DetailFlowError(
    'config',
    `the scales are ${scales.map(sides).join(', ')}, and ${sides(scales[k])} comes after ${sides(scales[k - 1])}; give a list of which each ` +
      `is larger than the one before, up to the last one, the size of the encoder's map`,
    { file, entry: 'scales' },
  );
}

/**
 * The last scale is the map that an encoder makes: no other can be larger. Lists of plain coding need not grow otherwise.
 * @throws DetailFlowError `config`
 */
export function requireLargestLast(scales: readonly Scale[], file?: string): void {
  const last = scales[scales.length - 1];
  if (scales.every((one) => fitsInto(one, last))) return;
  throw new DetailFlowError(
    'config',
    `the scales are ${scales.map(sides).join(', ')}; none may have more rows or columns than the last one, the size of the encoder's map`,
    { file, entry: 'scales' },
  );
}

/** A scale in words. */
export const sides = ({ rows, columns }: Scale): string => `${rows} x ${columns}`;

export const sameScale = (a: Scale, b: Scale): boolean => a.rows === b.rows && a.columns === b.columns;
