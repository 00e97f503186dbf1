import { DetailFlowError } from '@detailflow/core';
import { symmetricEigenvalues } from './symmetric-eigenvalues';

/** A covariance as the product of a matrix with itself: S = F F^T. */
export interface CovarianceFactor {
  /** [n, rank]-shaped part of [n, n]: row i belongs to feature order[i], and ends at column i. */
  readonly factor: Float64Array;
  readonly rank: number;
  readonly order: Uint32Array;
  /** S [n, n], symmetric to the bit. */
  readonly matrix: Float64Array;
  /** The entries hold rounding of float32: directions below it are left out of the factor. */
  readonly isRounded: boolean;
}

/** Where a covariance comes from, for messages. */
export interface CovarianceOrigin {
  readonly file?: string;
  readonly entry?: string;
}

/** Rounding of a float32, relative. */
const SINGLE = 2 ** -23;

/**
 * Checks that a matrix is a covariance, and factors it. Rounding is forgiven, that of float32 included, since
 * statistics are often kept so: opposite entries may differ by 1e-5 of the deviations that belong to them, variances
 * and eigenvalues may lie below 0 by what float32 entries are rounded by. Nothing else is.
 * @param matrix [n, n]
 * @throws DetailFlowError `shape`; `invalid-argument` naming the first entry or the eigenvalue that no covariance has
 */
export function factorCovariance(
  matrix: Float64Array,
  n: number,
  origin: CovarianceOrigin = {},
): CovarianceFactor {
  const symmetric = checkedEntries(matrix, n, origin);
  const most = largestVariance(symmetric, n);
  const exact = pivotedCholesky(symmetric, n, n * Number.EPSILON * most);
  if (exact.isWhole) return { ...exact, matrix: symmetric, isRounded: false };
  const noise = requireNoNegative(symmetric, n, most, origin);
  const rounded = pivotedCholesky(symmetric, n, Math.max(n * Number.EPSILON, 4 * noise) * most);
  return { ...rounded, matrix: symmetric, isRounded: true };
}

/** Finite, no variance below 0, symmetric; the matrix itself, or where rounding needs it a copy, that is so to the bit. */
function checkedEntries(matrix: Float64Array, n: number, origin: CovarianceOrigin): Float64Array {
  if (matrix.length !== n * n) {
    throw new DetailFlowError(
      'shape',
      `${matrix.length} values do not make a covariance of ${n} features`,
      origin,
    );
  }
  const fail = (problem: string) =>
    new DetailFlowError(
      'invalid-argument',
      `is no covariance: ${problem}; were the statistics damaged?`,
      origin,
    );
  for (let at = 0; at < matrix.length; at++) {
    if (!Number.isFinite(matrix[at])) {
      throw fail(`entry [${Math.floor(at / n)}, ${at % n}] is ${matrix[at]}, which is not finite`);
    }
  }
  const most = largestVariance(matrix, n);
  for (let i = 0; i < n; i++) {
    const variance = matrix[i * n + i];
    if (variance < -SINGLE * most || (most <= 0 && variance < 0)) {
      throw fail(`the variance [${i}, ${i}] is ${variance}, below 0`);
    }
  }
  let symmetric = matrix;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      const [below, above] = [matrix[i * n + j], matrix[j * n + i]];
      const size = Math.sqrt(Math.abs(matrix[i * n + i] * matrix[j * n + j]));
      if (Math.abs(below - above) > 1e-5 * size + n * Number.EPSILON * most) {
        throw fail(`entries [${i}, ${j}] and [${j}, ${i}] are ${below} and ${above}, which must be equal`);
      }
      if (below === above) continue;
      if (symmetric === matrix) symmetric = matrix.slice();
      symmetric[i * n + j] = symmetric[j * n + i] = (below + above) / 2;
    }
  }
  return symmetric;
}

function largestVariance(matrix: Float64Array, n: number): number {
  let most = 0;
  for (let i = 0; i < n; i++) most = Math.max(most, matrix[i * n + i]);
  return most;
}

/**
 * By the eigenvalues of the correlations, so that large features do not hide small ones.
 * @returns how far the least of them lies below 0
 */
function requireNoNegative(matrix: Float64Array, n: number, most: number, origin: CovarianceOrigin): number {
  const margin = SINGLE * most; // of variances, so that those of rounding count for nothing
  const size = Float64Array.from({ length: n }, (_, i) =>
    Math.sqrt(Math.max(matrix[i * n + i], 0) + 2 * margin),
  );
  const correlations = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const value = matrix[i * n + j] + (i === j ? margin : 0);
      correlations[i * n + j] = most > 0 ? value / (size[i] * size[j]) : value;
    }
  }
  const least = symmetricEigenvalues(correlations, n)[0];
  if (least >= -8 * Math.sqrt(n) * SINGLE) return Math.max(0, -least);
  throw new DetailFlowError(
    'invalid-argument',
    `is no covariance: its correlations have the eigenvalue ${least.toPrecision(4)}, below 0 by more than rounding; were the statistics damaged?`,
    origin,
  );
}

/**
 * S = F F^T with rows in pivoted order. Stops where no variance above `smallest` is left; `isWhole` says whether what
 * is left then is rounding of float64.
 */
function pivotedCholesky(matrix: Float64Array, n: number, smallest: number) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const left = Float64Array.from({ length: n }, (_, i) => matrix[i * n + i]);
  const factor = new Float64Array(n * n);
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
  return { factor, rank, order, isWhole: isRounding(matrix, n, { factor, rank, order, left }) };
}

/** Whether what a factor leaves of a matrix could be left of a covariance: no covariance beyond the variances. */
function isRounding(
  matrix: Float64Array,
  n: number,
  found: { factor: Float64Array; rank: number; order: Uint32Array; left: Float64Array },
): boolean {
  const { factor, rank, order, left } = found;
  const unit = 8 * n * Number.EPSILON;
  const size = Float64Array.from(order, (feature) => Math.sqrt(Math.abs(matrix[feature * n + feature])));
  for (let i = rank; i < n; i++) {
    if (!(left[i] >= -unit * size[i] ** 2)) return false;
    for (let j = rank; j < i; j++) {
      let rest = matrix[order[i] * n + order[j]];
      for (let k = 0; k < rank; k++) rest -= factor[i * n + k] * factor[j * n + k];
      const most = Math.sqrt(Math.max(left[i], 0) * Math.max(left[j], 0)) + unit * size[i] * size[j];
      if (!(Math.abs(rest) <= most)) return false;
    }
  }
  return true;
}

function swap(values: Float64Array | Uint32Array, i: number, j: number): void {
  [values[i], values[j]] = [values[j], values[i]];
}
