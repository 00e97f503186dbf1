import { type Backend, checkOptions, DetailFlowError } from '@detailflow/core';
import { RowProducts } from './row-products';

export interface PrecisionRecallOptions {
  /** Features of a row, D. */
  readonly width: number;
  /** Multiplies matrices. */
  readonly backend: Backend;
  /** Neighbours that span the neighbourhood of a row; default 3. */
  readonly neighbours?: number;
  readonly signal?: AbortSignal;
}

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
 * neighbourhood of some row of b. The neighbourhood of a row reaches to its k-th nearest neighbour on its own side.
 * @param a real, b generated features, [n, D] and [m, D]
 * @throws DetailFlowError `shape`, or `invalid-argument` with too few rows
 * Source: Kynkaanniemi et al., "Improved precision and recall metric", 2019.
 */
export async function precisionRecall(
  a: Float32Array,
  b: Float32Array,
  options: PrecisionRecallOptions,
): Promise<PrecisionRecall> {
  checkOptions('precisionRecall', options, { width: true, backend: true, neighbours: true, signal: true });
  const { width, neighbours = 3, backend, signal } = options;
  for (const features of [a, b]) {
    const count = features.length / width;
    if (!Number.isInteger(count)) {
      throw new DetailFlowError('shape', `${features.length} features do not make rows of ${width}`);
    }
    if (count <= neighbours) {
      throw new DetailFlowError('invalid-argument', `${count} rows are too few for ${neighbours} neighbours`);
    }
  }
  const products = await RowProducts.create(backend, width);
  try {
    const mean = meanRow(a, width);
    const [left, right] = [new CentredRows(a, mean), new CentredRows(b, mean)];
    const radiiA = await radii(products, left, neighbours, signal);
    const radiiB = await radii(products, right, neighbours, signal);
    const isPrecise = new Uint8Array(right.count);
    const isRecalled = new Uint8Array(left.count);
    for (let i0 = 0; i0 < left.count; i0 += TILE) {
      const rows = left.tile(i0);
      for (let j0 = 0; j0 < right.count; j0 += TILE) {
        const distances = await squaredDistances(products, rows, right.tile(j0), signal);
        const columns = Math.min(TILE, right.count - j0);
        for (let at = 0, i = i0; at < distances.length; i++) {
          const radius = radiiA[i];
          for (let j = j0; j < j0 + columns; j++, at++) {
            if (distances[at] <= radius) isPrecise[j] = 1;
            if (distances[at] <= radiiB[j]) isRecalled[i] = 1;
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
  /** [rows, width] */
  readonly data: Float32Array;
  /** Of every row the product with itself. */
  readonly squares: Float64Array;
}

/** Rows without a mean, tile by tile: distances stay, and lose fewer digits. */
class CentredRows {
  readonly count: number;
  readonly #data: Float32Array;
  readonly #mean: Float64Array;

  constructor(data: Float32Array, mean: Float64Array) {
    this.#data = data;
    this.#mean = mean;
    this.count = data.length / mean.length;
  }

  tile(first: number): Tile {
    const mean = this.#mean;
    const width = mean.length;
    const rows = Math.min(TILE, this.count - first);
    const data = this.#data.slice(first * width, (first + rows) * width);
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

function meanRow(features: Float32Array, width: number): Float64Array {
  const mean = new Float64Array(width);
  const rows = features.length / width;
  for (let at = 0; at < features.length; ) {
    for (let k = 0; k < width; k++, at++) mean[k] += features[at] / rows;
  }
  return mean;
}

/** [rows of x, rows of y] */
async function squaredDistances(
  products: RowProducts,
  x: Tile,
  y: Tile,
  signal?: AbortSignal,
): Promise<Float64Array> {
  signal?.throwIfAborted();
  const found = await products.of(x.data, y.data, { signal });
  const out = new Float64Array(found.length);
  for (let i = 0, at = 0; i < x.squares.length; i++) {
    for (let j = 0; j < y.squares.length; j++, at++) {
      out[at] = Math.max(0, x.squares[i] + y.squares[j] - 2 * found[at]);
    }
  }
  return out;
}

/** Squared distance of every row to its k-th nearest neighbour among the others. */
async function radii(
  products: RowProducts,
  rows: CentredRows,
  neighbours: number,
  signal?: AbortSignal,
): Promise<Float64Array> {
  // Of every row the k smallest so far, ascending.
  const nearest = new Float64Array(rows.count * neighbours).fill(Number.POSITIVE_INFINITY);
  const consider = (row: number, squared: number) => {
    const first = row * neighbours;
    let at = first + neighbours - 1;
    if (squared >= nearest[at]) return;
    for (; at > first && nearest[at - 1] > squared; at--) nearest[at] = nearest[at - 1];
    nearest[at] = squared;
  };
  for (let i0 = 0; i0 < rows.count; i0 += TILE) {
    const left = rows.tile(i0);
    for (let j0 = i0; j0 < rows.count; j0 += TILE) {
      const right = j0 === i0 ? left : rows.tile(j0);
      const distances = await squaredDistances(products, left, right, signal);
      const columns = right.squares.length;
      for (let at = 0, i = i0; at < distances.length; i++) {
        for (let j = j0; j < j0 + columns; j++, at++) {
          if (i === j) continue;
          consider(i, distances[at]);
          if (j0 > i0) consider(j, distances[at]); // the tile that mirrors this one is left out
        }
      }
    }
  }
  return Float64Array.from({ length: rows.count }, (_, i) => nearest[(i + 1) * neighbours - 1]);
}
