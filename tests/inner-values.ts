import { type Graph, trace, type Value } from '@detailflow/core';

/** What uses a value, in the order in which it is computed. */
const users = ({ nodes }: Graph, value: Value): Value[] =>
  nodes.filter(({ inputs }) => inputs.includes(value));

function weightOf({ weights }: Graph, name: string): Value {
  const found = weights.get(name);
  if (!found) throw new Error(`the graph has no weight ${name}`);
  return found;
}

/** The first operation that computes with a weight, as it is or reshaped. */
export function userOf(graph: Graph, name: string): Value {
  const [first] = users(graph, weightOf(graph, name));
  return first.op === 'reshape' ? users(graph, first)[0] : first;
}

/** What a layer gives that multiplies by NAME.weight and adds NAME.bias where there is one. */
export const layerOutput = (graph: Graph, name: string): Value =>
  userOf(graph, graph.weights.has(`${name}.bias`) ? `${name}.bias` : `${name}.weight`);

/** What a layer multiplies by NAME.weight. */
export const layerInput = (graph: Graph, name: string): Value => userOf(graph, `${name}.weight`).inputs[0];

/** The residual sum that the output of a layer goes into. */
export function sumAfter(graph: Graph, name: string): Value {
  let [value] = users(graph, layerOutput(graph, name));
  while (value.op !== 'add') [value] = users(graph, value);
  return value;
}

/** The graph of a function, which gives values from inside as well. */
export function traceInside(
  build: Parameters<typeof trace>[0],
  inside: (graph: Graph) => Readonly<Record<string, Value>>,
): Graph {
  const graph = trace(build);
  return { ...graph, outputs: new Map([...graph.outputs, ...Object.entries(inside(graph))]) };
}
