import { type Backend, checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import { exactProducts, RowProducts } from './row-products';

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

/** Random numbers that choose the rows of subsets. */
const PURPOSE = 401;

/**
 * KID: the unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3, over random subsets.
 * @param a, b features [n, D]
 * @returns mean and standard deviation over the subsets
 * @throws DetailFlowError `shape`, or `invalid-argument` with fewer than two rows
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
  const counts = [a, b].map(({ length }) => length / width);
  const size = Math.min(options.subsetSize ?? 1000, ...counts);
  if (!counts.every(Number.isInteger)) {
    throw new DetailFlowError('shape', `${a.length} and ${b.length} features do not make rows of ${width}`);
  }
  if (size < 2) throw new DetailFlowError('invalid-argument', 'at least two rows on each side are needed');
  const products = backend ? await RowProducts.create(backend, width) : exactProducts(width);
  try {
    const distances: number[] = [];
    for (let position = 0; position < subsets; position++) {
      const random = new RandomStream({ seed, purpose: PURPOSE, position });
      const x = rowsOf(a, width, chooseRows(random, counts[0], size));
      const y = rowsOf(b, width, chooseRows(random, counts[1], size));
      const [xx, yy, xy] = [
        await products.of(x, x, { signal }),
        await products.of(y, y, { signal }),
        await products.of(x, y, { signal }),
      ];
      const within = [xx, yy].reduce(
        (sum, own) => sum + kernelSum(own, width) - diagonal(own, size, width),
        0,
      );
      distances.push(within / (size * (size - 1)) - (2 * kernelSum(xy, width)) / size ** 2);
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

function rowsOf(features: Float32Array, width: number, rows: Uint32Array): Float32Array {
  const out = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries())
    out.set(features.subarray(row * width, (row + 1) * width), i * width);
  return out;
}

function kernel(product: number, width: number): number {
  const base = product / width + 1;
  return base * base * base; // a power would take ten times as long
}

/** Sum of the kernel over all pairs. */
function kernelSum(products: Float32Array | Float64Array, width: number): number {
  let total = 0;
  for (let i = 0; i < products.length; i++) total += kernel(products[i], width);
  return total;
}

/** Sum of the kernel of rows with themselves. */
function diagonal(products: Float32Array | Float64Array, size: number, width: number): number {
  let total = 0;
  for (let i = 0; i < size; i++) total += kernel(products[i * (size + 1)], width);
  return total;
}
