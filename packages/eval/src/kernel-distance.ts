import { DetailFlowError, RandomStream } from '@detailflow/core';

export interface KernelDistanceOptions {
  /** Features of a row, D. */
  readonly width: number;
  /** Subsets that are compared; default 100. */
  readonly subsets?: number;
  /** Rows of a subset; default 1000, at most those there are. */
  readonly subsetSize?: number;
  /** Default 0. */
  readonly seed?: number;
}

/** Random numbers that choose the rows of subsets. */
const PURPOSE = 401;

/**
 * KID: the unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3, over random subsets.
 * @param a, b features [n, D]
 * @returns mean and standard deviation over the subsets
 * @throws DetailFlowError `shape`, or `invalid-argument` with fewer than two rows
 * Source: Binkowski et al., "Demystifying MMD GANs", 2018; defaults of torch-fidelity.
 */
export function kernelDistance(
  a: Float32Array,
  b: Float32Array,
  options: KernelDistanceOptions,
): { mean: number; deviation: number } {
  const { width, subsets = 100, seed = 0 } = options;
  const counts = [a, b].map(({ length }) => length / width);
  const size = Math.min(options.subsetSize ?? 1000, ...counts);
  if (!counts.every(Number.isInteger)) {
    throw new DetailFlowError('shape', `${a.length} and ${b.length} features do not make rows of ${width}`);
  }
  if (size < 2) throw new DetailFlowError('invalid-argument', 'at least two rows on each side are needed');
  const distances = Array.from({ length: subsets }, (_, position) => {
    const random = new RandomStream({ seed, purpose: PURPOSE, position });
    const [x, y] = [
      rowsOf(a, width, chooseRows(random, counts[0], size)),
      rowsOf(b, width, chooseRows(random, counts[1], size)),
    ];
    const within = (kernelSum(x, x, width, true) + kernelSum(y, y, width, true)) / (size * (size - 1));
    return within - (2 * kernelSum(x, y, width, false)) / size ** 2;
  });
  const mean = distances.reduce((sum, x) => sum + x, 0) / subsets;
  const deviation = Math.sqrt(distances.reduce((sum, x) => sum + (x - mean) ** 2, 0) / subsets);
  return { mean, deviation };
}

/** Without repetition. */
function chooseRows(random: RandomStream, count: number, size: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = 0; i < size; i++) {
    const j = i + random.integer(count - i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order.subarray(0, size);
}

function rowsOf(features: Float32Array, width: number, rows: Uint32Array): Float64Array {
  const out = new Float64Array(rows.length * width);
  for (const [i, row] of rows.entries())
    out.set(features.subarray(row * width, (row + 1) * width), i * width);
  return out;
}

/** Sum of the kernel over all pairs; over pairs of different rows when x and y are the same set. */
function kernelSum(x: Float64Array, y: Float64Array, width: number, isSame: boolean): number {
  const [n, m] = [x.length / width, y.length / width];
  let total = 0;
  for (let i = 0; i < n; i++) {
    for (let j = isSame ? i + 1 : 0; j < m; j++) {
      let dot = 0;
      for (let k = 0; k < width; k++) dot += x[i * width + k] * y[j * width + k];
      total += (isSame ? 2 : 1) * (dot / width + 1) ** 3;
    }
  }
  return total;
}
