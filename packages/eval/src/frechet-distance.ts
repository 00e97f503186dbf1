import { DetailFlowError } from '@detailflow/core';
import type { Gaussian } from './gaussian-statistics';
import { symmetricEigenvalues } from './symmetric-eigenvalues';

/**
 * Frechet distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).
 *
 * With S1 = F F^T, the eigenvalues of S1 S2 that are not zero are those of the symmetric matrix F^T S2 F, so nothing
 * ever becomes complex, and covariances without full rank need no special care.
 * @throws DetailFlowError `shape` when the widths differ, `invalid-argument` when a value is not finite
 * Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017.
 */
export function frechetDistance(a: Gaussian, b: Gaussian): number {
  const width = a.mean.length;
  if (b.mean.length !== width) {
    throw new DetailFlowError(
      'shape',
      `Gaussians of ${width} and ${b.mean.length} features cannot be compared`,
    );
  }
  for (const { mean, covariance } of [a, b]) {
    if (covariance.length !== width * width) {
      throw new DetailFlowError(
        'shape',
        `${covariance.length} values do not make a covariance of ${width} features`,
      );
    }
    if (![mean, covariance].every((values) => values.every(Number.isFinite))) {
      throw new DetailFlowError('invalid-argument', 'mean or covariance holds a value that is not finite');
    }
  }
  let distance = 0;
  for (let i = 0; i < width; i++) {
    distance += (a.mean[i] - b.mean[i]) ** 2 + a.covariance[i * width + i] + b.covariance[i * width + i];
  }
  return Math.max(0, distance - 2 * traceOfRoot(a.covariance, b.covariance, width)); // rounding may end below 0
}

/** tr((S1 S2)^(1/2)) of covariances [n, n]. */
export function traceOfRoot(first: Float64Array, second: Float64Array, n: number): number {
  const { factor, rank, order } = pivotedCholesky(first, n);
  if (rank === 0) return 0;
  const inner = congruence(factor, rank, order, second, n);
  return symmetricEigenvalues(inner, rank).reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
}

/**
 * S = F F^T with rows in pivoted order: row i of `factor` [n, rank] belongs to feature order[i], and ends at column i.
 * Stops where what is left is rounding.
 */
function pivotedCholesky(matrix: Float64Array, n: number) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const left = Float64Array.from({ length: n }, (_, i) => matrix[i * n + i]);
  const factor = new Float64Array(n * n);
  const smallest = Number.EPSILON * left.reduce((a, b) => Math.max(a, b), 0);
  let rank = 0;
  for (; rank < n; rank++) {
    let pivot = rank;
    for (let i = rank + 1; i < n; i++) if (left[i] > left[pivot]) pivot = i;
    if (!(left[pivot] > smallest)) break;
    swap(order, rank, pivot);
    swap(left, rank, pivot);
    const row = factor.slice(rank * n, rank * n + rank);
    factor.copyWithin(rank * n, pivot * n, pivot * n + rank);
    factor.set(row, pivot * n);
    const root = Math.sqrt(left[rank]);
    const at = rank * n;
    factor[at + rank] = root;
    const source = order[rank] * n;
    for (let i = rank + 1; i < n; i++) {
      const to = i * n;
      let sum = matrix[source + order[i]];
      for (let k = 0; k < rank; k++) sum -= factor[to + k] * factor[at + k];
      const value = sum / root;
      factor[to + rank] = value;
      left[i] -= value * value;
    }
  }
  return { factor, rank, order };
}

function swap(values: Float64Array | Uint32Array, i: number, j: number): void {
  [values[i], values[j]] = [values[j], values[i]];
}

/** F^T S F [rank, rank], the lower triangle. */
function congruence(
  factor: Float64Array,
  rank: number,
  order: Uint32Array,
  matrix: Float64Array,
  n: number,
): Float64Array {
  // Columns of F as rows, in the order of the features of S; column c is zero before its pivot.
  const columns = new Float64Array(rank * n);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c <= Math.min(i, rank - 1); c++) columns[c * n + order[i]] = factor[i * n + c];
  }
  const products = multiplyTransposed(columns, matrix, rank, n, n); // F^T S
  const out = new Float64Array(rank * rank);
  const whole = multiplyTransposed(products, columns, rank, rank, n);
  out.set(whole);
  return out;
}

/** Columns of both factors that are summed over before moving on: they stay in the cache. */
const DEPTH = 256;
const ROWS = 64;

/** X Y^T: X [rows, depth], Y [columns, depth], result [rows, columns]. */
function multiplyTransposed(
  x: Float64Array,
  y: Float64Array,
  rows: number,
  columns: number,
  depth: number,
): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let k0 = 0; k0 < depth; k0 += DEPTH) {
    const k1 = Math.min(depth, k0 + DEPTH);
    for (let j0 = 0; j0 < columns; j0 += ROWS) {
      const j1 = Math.min(columns, j0 + ROWS);
      for (let i = 0; i < rows; i += 2) {
        const next = Math.min(i + 1, rows - 1);
        for (let j = j0; j < j1; j += 2) {
          const right = Math.min(j + 1, j1 - 1);
          const [a, b, c, d] = [i * depth, next * depth, j * depth, right * depth];
          let [s00, s01, s10, s11] = [0, 0, 0, 0];
          for (let k = k0; k < k1; k++) {
            const [p, q, u, v] = [x[a + k], x[b + k], y[c + k], y[d + k]];
            s00 += p * u;
            s01 += p * v;
            s10 += q * u;
            s11 += q * v;
          }
          out[i * columns + j] += s00;
          if (right > j) out[i * columns + right] += s01;
          if (next > i) {
            out[next * columns + j] += s10;
            if (right > j) out[next * columns + right] += s11;
          }
        }
      }
    }
  }
  return out;
}
