import { DetailFlowError, type GraphBuilder, type ParameterSpec, type Value } from '@detailflow/core';

/** A weight by its name in the state dict that it comes from. */
export type Parameters = (name: string) => Value;

/** Access to the weights of a network inside a graph. */
export function networkWeights(graph: GraphBuilder, specs: readonly ParameterSpec[]): Parameters {
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return (name) => {
    const shape = shapes.get(name);
    if (!shape) throw new DetailFlowError('weights', 'the network has no such weight', { entry: name });
    return graph.weight(name, shape);
  };
}
