import type { Graph, Value } from '@detailflow/core';

/** How the matrices of a model are held: 8 bits a weight, or 4. */
export type Quantisation = 'q8' | 'q4';

/** A matrix [out, in] in few bits: the bytes as the runtime's operator wants them, and their scales. */
export interface QuantisedMatrix {
  readonly kind: Quantisation;
  readonly out: number;
  readonly in: number;
  /** q8: int8 [in, out]. q4: two values a byte, [out, blocks, 16]. */
  readonly values: Int8Array | Uint8Array;
  /** q8: one for each output [out]. q4: one for each block [out, blocks]. */
  readonly scales: Float32Array;
}

/** Weights of one q4 scale. */
export const BLOCK = 32;

/** Rounds a matrix [out, in], row-major, to few bits. */
export function quantise(
  kind: Quantisation,
  weights: Float32Array,
  out: number,
  columns: number,
): QuantisedMatrix {
  return kind === 'q8' ? quantiseQ8(weights, out, columns) : quantiseQ4(weights, out, columns);
}

/** Symmetric, one scale for each output, written transposed in tiles that stay in the cache. */
function quantiseQ8(weights: Float32Array, out: number, columns: number): QuantisedMatrix {
  const values = new Int8Array(out * columns);
  const scales = new Float32Array(out);
  const inverse = new Float32Array(out);
  for (let row = 0; row < out; row++) {
    let largest = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const size = Math.abs(weights[i]);
      if (size > largest) largest = size;
    }
    scales[row] = largest / 127;
    inverse[row] = largest === 0 ? 0 : 127 / largest;
  }
  const tile = 64;
  for (let firstRow = 0; firstRow < out; firstRow += tile) {
    const lastRow = Math.min(out, firstRow + tile);
    for (let column = 0; column < columns; column++) {
      for (let row = firstRow; row < lastRow; row++) {
        values[column * out + row] = Math.round(weights[row * columns + column] * inverse[row]);
      }
    }
  }
  return { kind: 'q8', out, in: columns, values, scales };
}

/** Blocks of 32 along a row; the value of largest size becomes -8, the others round to -8..7; stored plus 8. */
function quantiseQ4(weights: Float32Array, out: number, columns: number): QuantisedMatrix {
  const blocks = Math.ceil(columns / BLOCK);
  const values = new Uint8Array(out * blocks * (BLOCK / 2)).fill(0x88);
  const scales = new Float32Array(out * blocks);
  for (let row = 0; row < out; row++) {
    for (let block = 0; block < blocks; block++) {
      const first = row * columns + block * BLOCK;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let extreme = 0;
      for (let i = first; i < first + count; i++) {
        if (Math.abs(weights[i]) > Math.abs(extreme)) extreme = weights[i];
      }
      const index = row * blocks + block;
      scales[index] = extreme / -8;
      const inverse = extreme === 0 ? 0 : -8 / extreme;
      for (let i = 0; i < count; i++) {
        const level = Math.min(15, Math.round(weights[first + i] * inverse) + 8);
        const at = index * (BLOCK / 2) + (i >> 1);
        values[at] = i % 2 === 0 ? (values[at] & 0xf0) | level : (values[at] & 0x0f) | (level << 4);
      }
    }
  }
  return { kind: 'q4', out, in: columns, values, scales };
}

/** Weights of a graph that can be held in few bits: matrices [out, in] used for nothing but x W^T. */
export function quantisableWeights(graph: Graph): Set<string> {
  const found = new Set<string>();
  const other = new Set<string>();
  for (const node of graph.nodes) {
    for (const [i, input] of node.inputs.entries()) {
      if (input.op === 'weight') (isLinear(node, i) ? found : other).add(input.attrs.name as string);
    }
  }
  for (const value of graph.outputs.values()) {
    if (value.op === 'weight') other.add(value.attrs.name as string);
  }
  return new Set([...found].filter((name) => !other.has(name)));
}

const isLinear = ({ op, inputs, attrs }: Value, operand: number): boolean =>
  op === 'matmul' &&
  operand === 1 &&
  inputs[1].shape.length === 2 &&
  attrs.transposeB === true &&
  attrs.transposeA === false;
