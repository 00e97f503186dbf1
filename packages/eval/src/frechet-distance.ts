import { DetailFlowError } from '@detailflow/core';
import { type CovarianceFactor, factorCovariance } from './covariance';
import type { Gaussian } from './gaussian-statistics';
import { addRowSums } from './row-sums';
import { symmetricEigenvalues } from './symmetric-eigenvalues';

/** What a distance may be below 0 by, of the variances: rounding of statistics that were kept in float32. */
const ROUNDING = 1e-5;

/**
 * Frechet distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).
 *
 * With S1 = F F^T, the eigenvalues of S1 S2 that are not zero are those of the symmetric matrix F^T S2 F, so nothing
 * ever becomes complex, and covariances without full rank need no special care.
 * @returns of equal Gaussians 0 up to rounding, which may end below 0: it is not cut
 * @throws DetailFlowError `shape` when the widths differ; `invalid-argument` when a value is not finite or a covariance
 *   is none (asymmetric, or with variances or eigenvalues below 0 by more than rounding)
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
  for (const { mean } of [a, b]) {
    if (!mean.every(Number.isFinite)) {
      throw new DetailFlowError('invalid-argument', 'a mean holds a value that is not finite');
    }
  }
  const root = traceOfRoot(a.covariance, b.covariance, width);
  let [between, variances] = [0, 0];
  for (let i = 0; i < width; i++) {
    between += (a.mean[i] - b.mean[i]) ** 2;
    variances += a.covariance[i * width + i] + b.covariance[i * width + i];
  }
  const distance = between + variances - 2 * root;
  if (!Number.isFinite(distance)) {
    throw new DetailFlowError(
      'invalid-argument',
      'means or variances are too large to be compared in float64',
    );
  }
  if (distance < -ROUNDING * variances) {
    throw new DetailFlowError(
      'runtime',
      `the distance came out as ${distance}, below 0 by more than rounding; please report these statistics`,
    );
  }
  return distance;
}

/**
 * tr((S1 S2)^(1/2)) of covariances [n, n].
 * @throws DetailFlowError `shape`; `invalid-argument` when one is no covariance
 */
export function traceOfRoot(first: Float64Array, second: Float64Array, n: number): number {
  const factors = [factorCovariance(first, n), factorCovariance(second, n)];
  // An exact factor before one that lacks directions; then the smaller one, which is less work.
  factors.sort((a, b) => Number(a.isRounded) - Number(b.isRounded) || a.rank - b.rank);
  const [{ factor, rank, order }, { matrix }] = factors;
  if (rank === 0) return 0;
  const values = symmetricEigenvalues(congruence({ factor, rank, order }, matrix, n), rank);
  // Both are covariances: what is below 0 here is rounding of 0.
  return values.reduce((sum, value) => sum + (value > 0 ? Math.sqrt(value) : 0), 0);
}

/** F^T S F [rank, rank], of which the lower triangle is right. */
function congruence(
  { factor, rank, order }: Pick<CovarianceFactor, 'factor' | 'rank' | 'order'>,
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
