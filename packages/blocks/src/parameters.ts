import { DetailFlowError, type GraphBuilder, type ParameterSpec, type Value } from '@detailflow/core';

/** A weight of a network by its name. */
export type Parameters = (name: string) => Value;

/**
 * Access to weights inside a graph, by the names and shapes that a configuration lists.
 * @throws DetailFlowError `weights`, when called, for a name that is not listed
 */
export function parameterAccess(graph: GraphBuilder, specs: readonly ParameterSpec[]): Parameters {
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return (name) => {
    const shape = shapes.get(name);
    if (!shape) throw new DetailFlowError('weights', 'the configuration has no such weight', { entry: name });
    return graph.weight(name, shape);
  };
}
