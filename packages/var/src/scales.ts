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

/** Whether no scale has more rows or columns than the last one. */
export function endsWithLargest(scales: readonly Scale[]): boolean {
  const last = scales[scales.length - 1];
  return scales.every(({ rows, columns }) => rows <= last.rows && columns <= last.columns);
}

/**
 * The last scale is the map that an encoder makes: no other can be larger.
 * @throws DetailFlowError `config`
 */
export function requireLargestLast(scales: readonly Scale[], file?: string): void {
  if (endsWithLargest(scales)) return;
  throw new DetailFlowError(
    'config',
    `the scales are ${scales.map(sides).join(', ')}; none may have more rows or columns than the last one, the size of the encoder's map`,
    { file, entry: 'scales' },
  );
}

/** A scale in words. */
export const sides = ({ rows, columns }: Scale): string => `${rows} x ${columns}`;

export const sameScale = (a: Scale, b: Scale): boolean => a.rows === b.rows && a.columns === b.columns;
