import type { Graph, Value } from '@detailflow/core';

/** How often each value is read: by nodes, outputs and state updates. */
export function countReaders(graph: Graph): Map<Value, number> {
  const counts = new Map<Value, number>();
  const count = (value: Value) => counts.set(value, (counts.get(value) ?? 0) + 1);
  for (const node of graph.nodes) node.inputs.forEach(count);
  for (const value of graph.outputs.values()) count(value);
  for (const { after } of graph.states.values()) count(after);
  return counts;
}
