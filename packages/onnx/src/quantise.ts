import { DetailFlowError } from '@detailflow/core';

/** How many bits hold a weight of a matrix, and how many weights of a row share a scale. */
export interface MatrixFormat {
  readonly bits: 4 | 8;
  /** 16, 32, 64 or 128. */
  readonly block: number;
}

/**
 * A matrix [out, in] in few bits, in blocks along its rows; the last block of a row is filled up. A weight is its scale times
 * (level - 2^(bits - 1)).
 */
export interface QuantisedMatrix extends MatrixFormat {
  readonly out: number;
  readonly in: number;
  /** Levels [out, blocks, block * bits / 8]: one a byte, or two, the first of them in the lower half. */
  readonly values: Uint8Array;
  /** [out, blocks] */
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
 * Rounds a matrix [out, in], row-major, to few bits, each weight to the nearest level.
 * @throws DetailFlowError `weights` where one is no finite number
 */
export function quantise(weights: Float32Array, matrix: QuantiseOptions): QuantisedMatrix {
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
