import { checkOptions, type Graph, type Value } from '@detailflow/core';
import type { MatrixFormat } from './quantise';

/** How the matrices of a model are held: 8 bits a weight, or 4. */
export type Quantisation = 'q8' | 'q4';

/**
 * The weights of a graph that are held in few bits, and how: matrices [out, in] used for nothing but x W^T. In 8 bits each row
 * has a scale, and products are those of integers, which processors are fastest at; where rows are too coarse, or not wanted, blocks have. What goes
 * into a product in blocks is rounded in blocks as long, so products of gated activations, which have outliers, go in short ones. The last matrices of a graph, whose errors nothing
 * evens out any more, keep 8 bits in q4, too.
 * @param options.rows false: 8 bits in blocks as well, for graphics cards, which have no product of integers here. Default: true
 */
export function matrixFormats(
  graph: Graph,
  dtype: Quantisation,
  options: { readonly rows?: boolean } = {},
): Map<string, MatrixFormat> {
  checkOptions('matrixFormats', options, { rows: true });
  const { rows = true } = options;
  const products = linearProducts(graph);
  const last = lastOf(graph, products);
  const formatOf = (product: Value): MatrixFormat => {
    if (dtype === 'q4' && !last.has(product)) return { bits: 4, block: 32 };
    const block = product.inputs[0].op === 'mul' ? 16 : 64;
    return { bits: 8, ...(dtype === 'q8' && rows ? { block: 'row', otherwise: block } : { block }) };
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

/**
 * Matrices that need more of what goes into their products than 8 bits a row keep: the last of a graph, and in a graph that goes on from what
 * it made before, where errors add up, what comes from no norm.
 */
export function fineInputs(graph: Graph): Set<string> {
  const products = linearProducts(graph);
  const last = lastOf(graph, products);
  const goesOn = graph.states.size > 0;
  const needsMore = (product: Value) => last.has(product) || (goesOn && !isNormed(product.inputs[0]));
  return new Set([...products].filter(([, product]) => needsMore(product)).map(([name]) => name));
}

/** Whether something is a norm, scaled and shifted at most. */
const isNormed = ({ op, inputs }: Value, operations = 2): boolean =>
  NORMS.has(op) ||
  (operations > 0 &&
    (op === 'add' || op === 'mul') &&
    inputs.some((input) => isNormed(input, operations - 1)));

const NORMS: ReadonlySet<string> = new Set(['rmsNorm', 'layerNorm', 'standardise']);

/** Those that go into no other of them. */
function lastOf(graph: Graph, all: ReadonlyMap<string, Value>): Set<Value> {
  const products = new Set(all.values());
  const isFollowed = new Set<Value>();
  for (const node of [...graph.nodes].reverse()) {
    if (!products.has(node) && !isFollowed.has(node)) continue;
    for (const input of node.inputs) isFollowed.add(input);
  }
  return new Set([...products].filter((product) => !isFollowed.has(product)));
}
