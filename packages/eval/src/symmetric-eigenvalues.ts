import { DetailFlowError } from '@detailflow/core';

/**
 * Eigenvalues of a symmetric matrix, in ascending order.
 * @param matrix [n, n], of which the lower triangle counts; overwritten
 * Source: Golub and Van Loan, "Matrix Computations", 4th edition, 8.3: Householder tridiagonalisation, and implicit QL.
 */
export function symmetricEigenvalues(matrix: Float64Array, n: number): Float64Array {
  if (matrix.length !== n * n) {
    throw new DetailFlowError('shape', `${matrix.length} values do not make a matrix [${n}, ${n}]`);
  }
  const { diagonal, beside } = tridiagonal(matrix, n);
  return tridiagonalEigenvalues(diagonal, beside).sort();
}

/** Householder reflections from the last row up, on the lower triangle alone. */
function tridiagonal(a: Float64Array, n: number): { diagonal: Float64Array; beside: Float64Array } {
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  const v = new Float64Array(n);
  const w = new Float64Array(n);
  for (let k = n - 1; k >= 1; k--) {
    // The reflection takes row k, columns 0 .. k-1, to a multiple of its last entry.
    const row = k * n;
    let scale = 0;
    for (let j = 0; j < k; j++) scale = Math.max(scale, Math.abs(a[row + j]));
    diagonal[k] = a[row + k];
    if (scale === 0 || k === 1) {
      beside[k] = a[row + k - 1];
      continue;
    }
    let squares = 0;
    for (let j = 0; j < k; j++) {
      v[j] = a[row + j] / scale;
      squares += v[j] * v[j];
    }
    const length = Math.sqrt(squares);
    const reflected = v[k - 1] > 0 ? -length : length;
    beside[k] = scale * reflected;
    const half = squares - reflected * v[k - 1]; // v^T v / 2 once v is reduced
    v[k - 1] -= reflected;
    multiplySymmetric(a, n, k, v, w);
    let along = 0;
    for (let j = 0; j < k; j++) {
      w[j] /= half;
      along += w[j] * v[j];
    }
    along /= 2 * half;
    for (let j = 0; j < k; j++) w[j] -= along * v[j];
    for (let i = 0; i < k; i++) {
      const [vi, wi, at] = [v[i], w[i], i * n];
      for (let j = 0; j <= i; j++) a[at + j] -= vi * w[j] + wi * v[j];
    }
  }
  diagonal[0] = a[0];
  return { diagonal, beside };
}

/** w = A v for the leading k x k block, of which the lower triangle is read once, row by row. */
function multiplySymmetric(a: Float64Array, n: number, k: number, v: Float64Array, w: Float64Array): void {
  w.fill(0, 0, k);
  for (let i = 0; i < k; i++) {
    const [at, vi] = [i * n, v[i]];
    let sum = 0;
    for (let j = 0; j < i; j++) {
      const x = a[at + j];
      sum += x * v[j];
      w[j] += x * vi;
    }
    w[i] += sum + a[at + i] * vi;
  }
}

const MOST_SWEEPS = 60;

/** @param beside entry i stands between places i - 1 and i; the first is not used */
function tridiagonalEigenvalues(diagonal: Float64Array, beside: Float64Array): Float64Array {
  const n = diagonal.length;
  const d = diagonal.slice();
  const e = new Float64Array(n);
  e.set(beside.subarray(1));
  for (let l = 0; l < n; l++) {
    for (let sweep = 0; ; sweep++) {
      let m = l;
      for (; m < n - 1; m++) {
        const size = Math.abs(d[m]) + Math.abs(d[m + 1]);
        if (Math.abs(e[m]) <= Number.EPSILON * size) break;
      }
      if (m === l) break;
      if (sweep === MOST_SWEEPS) {
        throw new DetailFlowError('runtime', 'the eigenvalues of the matrix do not converge; is it finite?');
      }
      sweepUp(d, e, l, m);
    }
  }
  return d;
}

/** One implicit QL step with Wilkinson's shift on the block l .. m. */
function sweepUp(d: Float64Array, e: Float64Array, l: number, m: number): void {
  let g = (d[l + 1] - d[l]) / (2 * e[l]);
  const root = Math.hypot(g, 1);
  g = d[m] - d[l] + e[l] / (g + (g >= 0 ? root : -root));
  let [s, c, p] = [1, 1, 0];
  for (let i = m - 1; i >= l; i--) {
    const [f, b] = [s * e[i], c * e[i]];
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1] -= p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - p;
    const t = (d[i] - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
  }
  d[l] -= p;
  e[l] = g;
  e[m] = 0;
}
