import { DetailFlowError } from '@detailflow/core';
import type { Gaussian } from './gaussian-statistics';
import { addRowSums } from './row-sums';
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

/** F^T S F [rank, rank], of which the lower triangle is right. */
function congruence(
  factor: Float64Array,
  rank: number,
  order: Uint32Array,
  matrix: Float64Array,
  n: number,
): Float64Array {
  // Columns of F as rows, and S in the same order of features: row c of F^T is zero before column c.
  const columns = new Float64Array(rank * n);
  const ordered = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c <= Math.min(i, rank - 1); c++) columns[c * n + i] = factor[i * n + c];
    const from = order[i] * n;
    for (let j = 0; j < n; j++) ordered[i * n + j] = matrix[from + order[j]];
  }
  const products = new Float64Array(rank * n); // F^T S
  addRowSums(products, columns, ordered, { rows: rank, columns: n, depth: n, isUpper: true });
  const out = new Float64Array(rank * rank);
  addRowSums(out, products, columns, { rows: rank, columns: rank, depth: n, lowerOnly: true });
  return out;
}
