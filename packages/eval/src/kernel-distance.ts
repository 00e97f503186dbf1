import { type Backend, checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import { meanRow } from './centred-rows';
import { requireFinite } from './finite-features';
import { exactProducts, RowProducts } from './row-products';

/** Options of {@link kernelDistance}. */
export interface KernelDistanceOptions {
  /** Features of a row, D. */
  readonly width: number;
  /** Multiplies matrices, in float32; without one that is done here, in float64 and slowly. */
  readonly backend?: Backend;
  /** Subsets that are compared; default 100. */
  readonly subsets?: number;
  /** Rows of a subset; default 1000, at most those there are. */
  readonly subsetSize?: number;
  /** Default 0. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/** Rows of a subset, unless there are fewer. */
export const KERNEL_SUBSET = 1000;
/** Random numbers that choose the rows of subsets. */
const PURPOSE = 401;

/**
 * KID: the unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3, over random subsets. It may come
 * out below 0, and is left so.
 *
 * The kernel depends on where 0 is, so rows cannot simply be centred. With rows x = m + x', m the mean of both sets,
 * x . y = x' . y' + m . x' + m . y' + m . m: the backend multiplies the small x' and y', the rest is added in float64; and
 * the part of the kernel that is the same for all pairs falls out of the difference before it is rounded.
 *
 * `a`, `b`: features [n, D].
 * @returns mean and standard deviation over the subsets; with as many rows as a subset has, all subsets are the same
 * @throws DetailFlowError `shape`, or `invalid-argument` with fewer than two rows or a feature that is not finite, or too
 *   large for the kernel
 * Source: Binkowski et al., "Demystifying MMD GANs", 2018; defaults of torch-fidelity.
 */
export async function kernelDistance(
  a: Float32Array,
  b: Float32Array,
  options: KernelDistanceOptions,
): Promise<{ mean: number; deviation: number }> {
  checkOptions('kernelDistance', options, {
    width: true,
    backend: true,
    subsets: true,
    subsetSize: true,
    seed: true,
    signal: true,
  });
  const { width, backend, subsets = 100, seed = 0, signal } = options;
  for (const features of [a, b]) requireFinite(features, width);
  const counts = [a, b].map(({ length }) => length / width);
  const size = Math.min(options.subsetSize ?? KERNEL_SUBSET, ...counts);
  if (!(size >= 2))
    throw new DetailFlowError('invalid-argument', 'at least two rows on each side are needed');
  if (!(subsets >= 1)) throw new DetailFlowError('invalid-argument', `subsets is ${subsets}; give 1 or more`);
  const centre = meanRow([a, b], width);
  const products = backend ? await RowProducts.create(backend, width) : exactProducts(width);
  try {
    const distances: number[] = [];
    for (let position = 0; position < subsets; position++) {
      const random = new RandomStream({ seed, purpose: PURPOSE, position });
      const x = rowsOf(a, centre, chooseRows(random, counts[0], size));
      const y = rowsOf(b, centre, chooseRows(random, counts[1], size));
      const mean = async (one: Rows, other: Rows) =>
        meanKernel(await products.of(one.data, other.data, { signal }), one, other, centre);
      distances.push((await mean(x, x)) + (await mean(y, y)) - 2 * (await mean(x, y)));
    }
    if (!distances.every(Number.isFinite)) {
      throw new DetailFlowError('invalid-argument', 'features are too large: their kernel is beyond float32');
    }
    const mean = distances.reduce((sum, x) => sum + x, 0) / subsets;
    const deviation = Math.sqrt(distances.reduce((sum, x) => sum + (x - mean) ** 2, 0) / subsets);
    return { mean, deviation };
  } finally {
    await products.dispose();
  }
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

/** Rows x' without the mean m of all. */
interface Rows {
  /** [count, width] */
  readonly data: Float64Array;
  /** m . x' of every row. */
  readonly along: Float64Array;
}

function rowsOf(features: Float32Array, centre: Float64Array, rows: Uint32Array): Rows {
  const width = centre.length;
  const data = new Float64Array(rows.length * width);
  const along = new Float64Array(rows.length);
  for (const [i, row] of rows.entries()) {
    for (let k = 0; k < width; k++) {
      const value = features[row * width + k] - centre[k];
      data[i * width + k] = value;
      along[i] += centre[k] * value;
    }
  }
  return { data, along };
}

/** Mean of the kernel less its value at the centre, over all pairs; of a set with itself over pairs of different rows. */
function meanKernel(products: ArrayLike<number>, x: Rows, y: Rows, centre: Float64Array): number {
  const [width, n, m] = [centre.length, x.along.length, y.along.length];
  const base = centre.reduce((sum, value) => sum + value * value, 0) / width + 1;
  const isSame = x === y;
  let total = 0;
  for (let i = 0, at = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < m; j++, at++) {
      if (isSame && i === j) continue;
      const d = (products[at] + x.along[i] + y.along[j]) / width;
      sum += d * (3 * base * base + d * (3 * base + d)); // (base + d)^3 - base^3
    }
    total += sum;
  }
  return total / (isSame ? n * (n - 1) : n * m);
}
