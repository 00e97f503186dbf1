import type { Graph, Value } from '@detailflow/core';
import type { MatrixFormat } from './quantise';

/** How the matrices of a model are held: 8 bits a weight, or 4. */
export type Quantisation = 'q8' | 'q4';

const EIGHT: MatrixFormat = { bits: 8, block: 64 };

/**
 * The weights of a graph that are held in few bits, and how: matrices [out, in] used for nothing but x W^T. What goes into
 * a product is rounded to 8 bits in blocks as long as the matrix's, so products of activations, which have outliers, go in
 * short ones. The last matrices of a graph, whose errors nothing evens out any more, keep 8 bits in q4, too.
 */
export function matrixFormats(graph: Graph, dtype: Quantisation): Map<string, MatrixFormat> {
  const products = linearProducts(graph);
  const last = lastProducts(graph, new Set(products.values()));
  const formatOf = (product: Value): MatrixFormat => {
    if (dtype === 'q4' && !last.has(product)) return { bits: 4, block: 32 };
    return product.inputs[0].op === 'mul' ? { bits: 8, block: 16 } : EIGHT;
  };
  return new Map([...products].map(([name, product]) => [name, formatOf(product)]));
}

/** The products x W^T by their weights, which nothing else reads. */
export function linearProducts(graph: Graph): Map<string, Value> {
  const found = new Map<string, Value>();
  const other = new Set<string>();
  for (const node of graph.nodes) {
    for (const [i, input] of node.inputs.entries()) {
      if (input.op !== 'weight') continue;
      const name = input.attrs.name as string;
      if (isLinear(node, i)) found.set(name, node);
      else other.add(name);
    }
  }
  for (const value of graph.outputs.values()) {
    if (value.op === 'weight') other.add(value.attrs.name as string);
  }
  return new Map([...found].filter(([name]) => !other.has(name)));
}

const isLinear = ({ op, inputs, attrs }: Value, operand: number): boolean =>
  op === 'matmul' &&
  operand === 1 &&
  inputs[1].shape.length === 2 &&
  attrs.transposeB === true &&
  attrs.transposeA === false;

/** Those that go into no other of them. */
function lastProducts(graph: Graph, products: ReadonlySet<Value>): Set<Value> {
  const isFollowed = new Set<Value>();
  for (const node of [...graph.nodes].reverse()) {
    if (!products.has(node) && !isFollowed.has(node)) continue;
    for (const input of node.inputs) isFollowed.add(input);
  }
  return new Set([...products].filter((product) => !isFollowed.has(product)));
}
