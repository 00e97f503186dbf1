import { DetailFlowError } from '@detailflow/core';

/** How many bits hold a weight of a matrix, and how many weights of a row share a scale. */
export interface MatrixFormat {
  readonly bits: 4 | 8;
  /** 16, 32, 64 or 128; or 'row', of 8 bits: one scale for a whole row. */
  readonly block: number | 'row';
  /** The block of a matrix that one scale a row is too coarse for; default 64. */
  readonly otherwise?: number;
}

/** A matrix [out, in] in few bits. */
export interface QuantisedMatrix extends Omit<MatrixFormat, 'otherwise'> {
  readonly out: number;
  readonly in: number;
  /**
   * In blocks along its rows, the last of a row filled up: levels [out, blocks, block * bits / 8], one a byte, or two, the first
   * of them in the lower half; a weight is its scale times (level - 2^(bits - 1)). With a scale a row: signed levels [in, out].
   */
  readonly values: Uint8Array | Int8Array;
  /** [out, blocks], or [out] */
  readonly scales: Float32Array;
}

/** What is said of a matrix that is to be rounded. */
export interface QuantiseOptions extends MatrixFormat {
  /** For messages. */
  readonly name: string;
  readonly out: number;
  readonly in: number;
}

/**
 * Rounds a matrix [out, in], row-major, to few bits, each weight to the nearest level. A matrix whose rows have outliers, of which one scale
 * would leave little of the others, is rounded in blocks where rows are asked for.
 * @throws DetailFlowError `weights` where one is no finite number
 */
export function quantise(weights: Float32Array, matrix: QuantiseOptions): QuantisedMatrix {
  const { block } = suitableFormat(weights, matrix);
  return block === 'row' ? quantiseRows(weights, matrix) : quantiseBlocks(weights, { ...matrix, block });
}

/**
 * The format a matrix really gets: blocks where one scale a row would be too coarse.
 * @throws DetailFlowError `weights` where one is no finite number
 */
export function suitableFormat(weights: Float32Array, matrix: QuantiseOptions): MatrixFormat {
  const { bits, block, in: columns, otherwise = 64 } = matrix;
  if (block !== 'row') return { bits, block };
  return { bits, block: isCoarse(weights, rowScales(weights, matrix), columns) ? otherwise : 'row' };
}

/**
 * The error of rows may be so much of the weights; it is 0.0075 for 1024 of a normal distribution. In blocks of 64 it would be 0.0055.
 */
const COARSE = 0.012;

/** Whether rounding evenly within the steps of its rows takes too much away from a matrix. */
function isCoarse(weights: Float32Array, scales: Float32Array, columns: number): boolean {
  let power = 0;
  for (let i = 0; i < weights.length; i++) power += weights[i] * weights[i];
  const error = scales.reduce((sum, scale) => sum + (columns * scale * scale) / 12, 0);
  return error > COARSE ** 2 * power;
}

function quantiseBlocks(
  weights: Float32Array,
  matrix: QuantiseOptions & { readonly block: number },
): QuantisedMatrix {
  const { name, bits, block, out, in: columns } = matrix;
  const blocks = Math.ceil(columns / block);
  const [zero, top] = [2 ** (bits - 1), 2 ** bits - 1];
  const levels = new Uint8Array(out * blocks * block).fill(zero);
  const scales = new Float32Array(out * blocks);
  for (let index = 0; index < scales.length; index++) {
    const first = Math.floor(index / blocks) * columns + (index % blocks) * block;
    const end = Math.min(first + block, (Math.floor(index / blocks) + 1) * columns);
    const extreme = extremeOf(weights, first, end, name);
    // 8 bits: the largest becomes 127 or -127. 4 bits: it becomes -8, whatever its sign, so that no level is lost.
    const scale = bits === 8 ? Math.abs(extreme) / 127 : extreme / -8;
    const inverse = scale === 0 ? 0 : 1 / scale;
    scales[index] = scale;
    for (let i = first, at = index * block; i < end; i++, at++) {
      const level = Math.floor(weights[i] * inverse + 0.5) + zero;
      levels[at] = level > top ? top : level < 0 ? 0 : level;
    }
  }
  return { bits, block, out, in: columns, values: bits === 8 ? levels : packed(levels), scales };
}

/** So many rows are turned into columns together, to stay within the caches. */
const STRIP = 32;

/** A scale a row; the levels are signed and lie column after column, as products of integers read them. */
function quantiseRows(weights: Float32Array, matrix: QuantiseOptions): QuantisedMatrix {
  const { out, in: columns } = matrix;
  const scales = rowScales(weights, matrix);
  const inverses = Float64Array.from(scales, (scale) => (scale === 0 ? 0 : 1 / scale));
  const levels = new Int8Array(columns * out);
  for (let first = 0; first < out; first += STRIP) {
    const end = Math.min(first + STRIP, out);
    for (let i = 0; i < columns; i++) {
      for (let row = first, at = i * out + first; row < end; row++, at++) {
        const level = Math.floor(weights[row * columns + i] * inverses[row] + 0.5);
        levels[at] = level > 127 ? 127 : level < -127 ? -127 : level;
      }
    }
  }
  return { bits: 8, block: 'row', out, in: columns, values: levels, scales };
}

/** The largest of a row becomes 127 or -127. */
const rowScales = (weights: Float32Array, { name, out, in: columns }: QuantiseOptions): Float32Array =>
  Float32Array.from(
    { length: out },
    (_, row) => Math.abs(extremeOf(weights, row * columns, (row + 1) * columns, name)) / 127,
  );

/** The weight that is farthest from 0. */
function extremeOf(weights: Float32Array, first: number, end: number, name: string): number {
  let extreme = 0;
  for (let i = first; i < end; i++) {
    const size = Math.abs(weights[i]);
    if (size > Math.abs(extreme)) extreme = weights[i];
    if (size <= MOST) continue;
    throw new DetailFlowError('weights', `weight ${i} is ${weights[i]}; it cannot be rounded`, {
      entry: name,
    });
  }
  return extreme;
}

/** The largest float32: what is no number is not below it either. */
const MOST = 3.4028234663852886e38;

/** Two levels a byte, the first in the lower half. */
export function packed(levels: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(levels.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = levels[2 * i] | (levels[2 * i + 1] << 4);
  return bytes;
}
