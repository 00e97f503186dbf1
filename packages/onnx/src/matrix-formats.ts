import type { Graph, Value } from '@detailflow/core';
import type { MatrixFormat } from './quantise';

/** How the matrices of a model are held: 8 bits a weight, or 4. */
export type Quantisation = 'q8' | 'q4';

/**
 * The weights of a graph that are held in few bits, and how: matrices [out, in] used for nothing but x W^T. What goes into
 * a product is rounded to 8 bits in blocks as long as the matrix's, so products of activations, which have outliers, go in short ones.
 */
export function matrixFormats(graph: Graph, dtype: Quantisation): Map<string, MatrixFormat> {
  const found = new Map<string, MatrixFormat>();
  const other = new Set<string>();
  for (const node of graph.nodes) {
    for (const [i, input] of node.inputs.entries()) {
      if (input.op !== 'weight') continue;
      const name = input.attrs.name as string;
      if (isLinear(node, i)) found.set(name, formatOf(node, dtype));
      else other.add(name);
    }
  }
  for (const value of graph.outputs.values()) {
    if (value.op === 'weight') other.add(value.attrs.name as string);
  }
  return new Map([...found].filter(([name]) => !other.has(name)));
}

const formatOf = ({ inputs: [x] }: Value, dtype: Quantisation): MatrixFormat =>
  dtype === 'q4' ? { bits: 4, block: 32 } : { bits: 8, block: x.op === 'mul' ? 16 : 64 };

const isLinear = ({ op, inputs, attrs }: Value, operand: number): boolean =>
  op === 'matmul' &&
  operand === 1 &&
  inputs[1].shape.length === 2 &&
  attrs.transposeB === true &&
  attrs.transposeA === false;
