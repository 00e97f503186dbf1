import { DetailFlowError } from './errors';
import { type Graph, GraphBuilder, type Value } from './graph';
import { operations } from './ops/table';

/**
 * The same graph with composite operations replaced by their decompositions, all but those in `keep`, which the
 * backend runs as fused kernels. What is computed twice in the same way is computed once: gradients decompose
 * the composites that the forward pass decomposes too.
 */
export function expandComposites(graph: Graph, keep: ReadonlySet<string> = new Set()): Graph {
  const builder = new GraphBuilder({ keepComposites: keep, share: true });
  const copies = new Map<Value, Value>();
  for (const node of graph.nodes) copies.set(node, copy(node));
  for (const [name, { before, after }] of graph.states) {
    if (after !== before) builder.update(name, copies.get(after) as Value);
  }
  const outputs = [...graph.outputs].map(([name, value]) => [name, copies.get(value) as Value]);
  return builder.finish(Object.fromEntries(outputs));

  function copy(node: Value): Value {
    const name = node.attrs.name as string;
    if (node.op === 'input') return builder.input(name, node.dtype, node.shape);
    if (node.op === 'weight') return builder.weight(name, node.shape as number[]);
    if (node.op === 'state') return builder.state(name, node.shape, node.dtype);
    if (node.op === 'constant') {
      return builder.constant(node.attrs.data as Float32Array, node.shape as number[], node.dtype);
    }
    const definition = operations.get(node.op);
    if (!definition) throw new DetailFlowError('unsupported', `there is no operation "${node.op}"`);
    const inputs = node.inputs.map((input) => copies.get(input) as Value);
    return builder.emit(definition, inputs, node.attrs);
  }
}
