import type { Backend, Graph, Tensors, Weights } from '@detailflow/core';

/** Compiles a graph, runs it once and frees it. */
export async function runOnce(backend: Backend, graph: Graph, weights: Weights, feeds: Tensors) {
  const executable = await backend.compile(graph, weights);
  const results = await executable.run(feeds);
  await executable.dispose();
  return results;
}
