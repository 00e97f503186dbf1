import { type Backend, checkOptions, DetailFlowError } from '@detailflow/core';
import { meanRow } from './centred-rows';
import { requireFinite } from './finite-features';
import { RowProducts } from './row-products';

/** Options of precision and recall. */
export interface PrecisionRecallOptions {
  /** Features of a row, D. */
  readonly width: number;
  /** Multiplies matrices. */
  readonly backend: Backend;
  /** Neighbours that span the neighbourhood of a row; default 3. */
  readonly neighbours?: number;
  readonly signal?: AbortSignal;
}

/** Shares from 0 to 1. Source: Kynkäänniemi et al., 2019. */
export interface PrecisionRecall {
  readonly precision: number;
  readonly recall: number;
  /** Of every row of b whether it lies in a neighbourhood of a; and the other way round. */
  readonly isPrecise: Uint8Array;
  readonly isRecalled: Uint8Array;
}

/** Rows of both sides that are compared at once: bounds the memory. */
const TILE = 1024;

/**
 * Precision: the share of b that lies in the neighbourhood of some row of a. Recall: the share of a that lies in the
 * neighbourhood of some row of b. The neighbourhood of a row reaches to its k-th nearest neighbour on its own side, that
 * one included.
 *
 * As exact as float64: distances by products on the backend only sort out the pairs that rounding cannot decide
 * otherwise, and the others are measured here. So a large mean, or a backend that rounds more than float32, costs time
 * and no digits.
 * @param a real, b generated features, [n, D] and [m, D]
 * @throws DetailFlowError `shape`, or `invalid-argument` with too few rows or a feature that is not finite
 * Source: Kynkaanniemi et al., "Improved precision and recall metric", 2019.
 */
export async function precisionRecall(
  a: Float32Array,
  b: Float32Array,
  options: PrecisionRecallOptions,
): Promise<PrecisionRecall> {
  checkOptions('precisionRecall', options, { width: true, backend: true, neighbours: true, signal: true });
  const { width, neighbours = 3, backend, signal } = options;
  if (!Number.isInteger(neighbours) || neighbours < 1) {
    throw new DetailFlowError('invalid-argument', `neighbours is ${neighbours}; give a whole number from 1`);
  }
  for (const features of [a, b]) {
    requireFinite(features, width);
    const count = features.length / width;
    if (count <= neighbours) {
      throw new DetailFlowError('invalid-argument', `${count} rows are too few for ${neighbours} neighbours`);
    }
  }
  const products = await RowProducts.create(backend, width);
  try {
    const own = (rows: Float32Array) => new Rows(rows, meanRow([rows], width));
    const radiiA = await radii(products, own(a), neighbours, signal);
    const radiiB = await radii(products, own(b), neighbours, signal);
    const centre = meanRow([a, b], width);
    const [left, right] = [new Rows(a, centre), new Rows(b, centre)];
    const isPrecise = new Uint8Array(right.count);
    const isRecalled = new Uint8Array(left.count);
    for (let i0 = 0; i0 < left.count; i0 += TILE) {
      const rows = left.tile(i0);
      for (let j0 = 0; j0 < right.count; j0 += TILE) {
        const found = await boundedDistances(products, rows, right.tile(j0), signal);
        const { least, most } = found;
        for (let at = 0, i = i0; at < least.length; i++) {
          for (let j = j0; j < j0 + found.columns; j++, at++) {
            const [reachA, reachB] = [radiiA[i], radiiB[j]];
            if (most[at] <= reachA) isPrecise[j] = 1;
            if (most[at] <= reachB) isRecalled[i] = 1;
            const isOpen =
              (isPrecise[j] === 0 && !(least[at] > reachA)) || (isRecalled[i] === 0 && !(least[at] > reachB));
            if (!isOpen) continue;
            const exact = squaredDistance(a, i, b, j, width);
            if (exact <= reachA) isPrecise[j] = 1;
            if (exact <= reachB) isRecalled[i] = 1;
          }
        }
      }
    }
    const share = (hits: Uint8Array) => hits.reduce((sum, hit) => sum + hit, 0) / hits.length;
    return { precision: share(isPrecise), recall: share(isRecalled), isPrecise, isRecalled };
  } finally {
    await products.dispose();
  }
}

interface Tile {
  /** [rows, width], without the mean */
  readonly data: Float32Array;
  /** Of every row the product with itself. */
  readonly squares: Float64Array;
}

/** Rows without a mean, tile by tile: distances stay, and lose fewer digits. */
class Rows {
  readonly count: number;
  readonly data: Float32Array;
  readonly #mean: Float64Array;

  constructor(data: Float32Array, mean: Float64Array) {
    this.data = data;
    this.#mean = mean;
    this.count = data.length / mean.length;
  }

  tile(first: number): Tile {
    const mean = this.#mean;
    const width = mean.length;
    const rows = Math.min(TILE, this.count - first);
    const data = this.data.slice(first * width, (first + rows) * width);
    const squares = new Float64Array(rows);
    for (let row = 0, at = 0; row < rows; row++) {
      for (let k = 0; k < width; k++, at++) {
        data[at] -= mean[k];
        squares[row] += data[at] * data[at];
      }
    }
    return { data, squares };
  }
}

/** Between which bounds the squared distances of the rows of two tiles lie, [rows of x, rows of y]. */
async function boundedDistances(
  products: RowProducts,
  x: Tile,
  y: Tile,
  signal?: AbortSignal,
): Promise<{ least: Float64Array; most: Float64Array; columns: number }> {
  signal?.throwIfAborted();
  const found = await products.of(x.data, y.data, { signal });
  const width = x.data.length / x.squares.length;
  // Of the sum of both squares: sums of `width` products in float32 in any order, and factors rounded to 11 bits as
  // tensor cores round them. Besides, products may be too small for float32.
  const share = 2 ** -10 + (width + 8) * 2 ** -24;
  const tiny = width * 2 ** -125;
  const [least, most] = [new Float64Array(found.length), new Float64Array(found.length)];
  const columns = y.squares.length;
  for (let i = 0, at = 0; i < x.squares.length; i++) {
    for (let j = 0; j < columns; j++, at++) {
      const squares = x.squares[i] + y.squares[j];
      const margin = Number.isFinite(found[at]) ? share * squares + tiny : Number.POSITIVE_INFINITY;
      const distance = margin < Number.POSITIVE_INFINITY ? squares - 2 * found[at] : 0;
      least[at] = distance - margin;
      most[at] = distance + margin;
    }
  }
  return { least, most, columns };
}

/** Of row i of a and row j of b, in float64. */
function squaredDistance(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
  const [x, y] = [i * width, j * width];
  let sum = 0;
  for (let k = 0; k < width; k++) sum += (a[x + k] - b[y + k]) ** 2;
  return sum;
}

/** Squared distance of every row to its k-th nearest neighbour among the others. */
async function radii(
  products: RowProducts,
  rows: Rows,
  neighbours: number,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const width = rows.data.length / rows.count;
  // The k-th nearest row is no farther than the k-th least upper bound.
  const [reach, nearest] = [new Smallest(rows.count, neighbours), new Smallest(rows.count, neighbours)];
  for (let i0 = 0; i0 < rows.count; i0 += TILE) {
    const left = rows.tile(i0);
    for (let j0 = i0; j0 < rows.count; j0 += TILE) {
      const right = j0 === i0 ? left : rows.tile(j0);
      const { least, most, columns } = await boundedDistances(products, left, right, signal);
      const eachPair = (visit: (at: number, i: number, j: number) => void) => {
        for (let i = i0, at = 0; at < least.length; i++) {
          for (let j = j0; j < j0 + columns; j++, at++) if (j > i) visit(at, i, j);
        }
      };
      eachPair((at, i, j) => {
        reach.take(i, most[at]);
        reach.take(j, most[at]);
      });
      eachPair((at, i, j) => {
        if (least[at] > reach.last(i) && least[at] > reach.last(j)) return;
        const exact = squaredDistance(rows.data, i, rows.data, j, width);
        nearest.take(i, exact);
        nearest.take(j, exact);
      });
    }
  }
  return Float64Array.from({ length: rows.count }, (_, i) => nearest.last(i));
}

/** Of every row the k smallest values so far, ascending. */
class Smallest {
  readonly #values: Float64Array;

  constructor(
    rows: number,
    readonly kept: number,
  ) {
    this.#values = new Float64Array(rows * kept).fill(Number.POSITIVE_INFINITY);
  }

  take(row: number, value: number): void {
    const values = this.#values;
    const first = row * this.kept;
    let at = first + this.kept - 1;
    if (!(value < values[at])) return;
    for (; at > first && values[at - 1] > value; at--) values[at] = values[at - 1];
    values[at] = value;
  }

  /** The k-th smallest. */
  last(row: number): number {
    return this.#values[(row + 1) * this.kept - 1];
  }
}
