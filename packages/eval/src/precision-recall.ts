import {
  type Backend,
  DetailFlowError,
  type Executable,
  matmul,
  symbol,
  Tensor,
  trace,
} from '@detailflow/core';

export interface PrecisionRecallOptions {
  /** Features of a row, D. */
  readonly width: number;
  /** Multiplies matrices. */
  readonly backend: Backend;
  /** Neighbours that span the neighbourhood of a row; default 3. */
  readonly neighbours?: number;
  readonly signal?: AbortSignal;
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
): Promise<{ precision: number; recall: number }> {
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
  const executable = await backend.compile(productGraph(width), new Map());
  try {
    const [left, right] = [centred(a, a, width), centred(b, a, width)];
    const [radiiA, radiiB] = [
      await radii(executable, left, neighbours, signal),
      await radii(executable, right, neighbours, signal),
    ];
    const inA = new Uint8Array(right.count);
    const inB = new Uint8Array(left.count);
    await forEachTile(executable, left, right, signal, (i, j, squared) => {
      if (squared <= radiiA[i]) inA[j] = 1;
      if (squared <= radiiB[j]) inB[i] = 1;
    });
    const share = (hits: Uint8Array) => hits.reduce((sum, hit) => sum + hit, 0) / hits.length;
    return { precision: share(inA), recall: share(inB) };
  } finally {
    await executable.dispose();
  }
}

interface Rows {
  readonly data: Float32Array;
  readonly count: number;
  readonly width: number;
  readonly squares: Float64Array;
}

/** Rows without the mean of `reference`: distances stay, and lose fewer digits. */
function centred(features: Float32Array, reference: Float32Array, width: number): Rows {
  const mean = new Float64Array(width);
  for (let i = 0; i < reference.length; i++) mean[i % width] += (reference[i] * width) / reference.length;
  const data = Float32Array.from(features, (x, i) => x - mean[i % width]);
  const count = data.length / width;
  const squares = new Float64Array(count);
  for (let i = 0; i < data.length; i++) squares[Math.floor(i / width)] += data[i] * data[i];
  return { data, count, width, squares };
}

/** Squared distance of every row to its k-th nearest neighbour among the others. */
async function radii(
  executable: Executable,
  rows: Rows,
  neighbours: number,
  signal?: AbortSignal,
): Promise<Float64Array> {
  // Of every row the k smallest so far, ascending.
  const nearest = new Float64Array(rows.count * neighbours).fill(Number.POSITIVE_INFINITY);
  await forEachTile(executable, rows, rows, signal, (i, j, squared) => {
    if (i === j) return;
    let at = (i + 1) * neighbours - 1;
    if (squared >= nearest[at]) return;
    for (; at > i * neighbours && nearest[at - 1] > squared; at--) nearest[at] = nearest[at - 1];
    nearest[at] = squared;
  });
  return Float64Array.from({ length: rows.count }, (_, i) => nearest[(i + 1) * neighbours - 1]);
}

async function forEachTile(
  executable: Executable,
  left: Rows,
  right: Rows,
  signal: AbortSignal | undefined,
  visit: (i: number, j: number, squared: number) => void,
): Promise<void> {
  const tile = ({ data, count, width }: Rows, first: number) => {
    const rows = Math.min(TILE, count - first);
    return new Tensor('float32', data.subarray(first * width, (first + rows) * width), [rows, width]);
  };
  for (let i0 = 0; i0 < left.count; i0 += TILE) {
    for (let j0 = 0; j0 < right.count; j0 += TILE) {
      signal?.throwIfAborted();
      const { products } = await executable.run({ x: tile(left, i0), y: tile(right, j0) }, { signal });
      const [rows, columns] = products.dims;
      const data = products.data as Float32Array;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const squared = left.squares[i0 + i] + right.squares[j0 + j] - 2 * data[i * columns + j];
          visit(i0 + i, j0 + j, Math.max(0, squared));
        }
      }
    }
  }
}

function productGraph(width: number) {
  return trace((g) => ({
    products: matmul(g.input('x', 'f32', [symbol('n'), width]), g.input('y', 'f32', [symbol('m'), width]), {
      transposeB: true,
    }),
  }));
}
