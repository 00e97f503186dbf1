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

/** Rounds a matrix [out, in], row-major, to few bits, each to the nearest level. */
export function quantise(
  weights: Float32Array,
  matrix: Pick<QuantisedMatrix, 'out' | 'in'> & MatrixFormat,
): QuantisedMatrix {
  const { bits, block, out, in: columns } = matrix;
  const blocks = Math.ceil(columns / block);
  const zero = 2 ** (bits - 1);
  const levels = new Uint8Array(out * blocks * block).fill(zero);
  const scales = new Float32Array(out * blocks);
  for (let row = 0; row < out; row++) {
    for (let index = 0; index < blocks; index++) {
      const first = row * columns + index * block;
      const part = weights.subarray(first, Math.min(first + block, (row + 1) * columns));
      const scale = scaleOf(part, bits);
      const inverse = scale === 0 ? 0 : 1 / scale;
      const at = (row * blocks + index) * block;
      scales[row * blocks + index] = scale;
      for (let i = 0; i < part.length; i++) {
        levels[at + i] = Math.max(0, Math.min(2 * zero - 1, Math.round(part[i] * inverse) + zero));
      }
    }
  }
  return { bits, block, out, in: columns, values: bits === 8 ? levels : packed(levels), scales };
}

/** 8 bits: the largest becomes 127 or -127. 4 bits: it becomes -8, whatever its sign, so that no level is lost. */
function scaleOf(part: Float32Array, bits: 4 | 8): number {
  let extreme = 0;
  for (const weight of part) if (Math.abs(weight) > Math.abs(extreme)) extreme = weight;
  return bits === 8 ? Math.abs(extreme) / 127 : extreme / -8;
}

function packed(levels: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(levels.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = levels[2 * i] | (levels[2 * i + 1] << 4);
  return bytes;
}
