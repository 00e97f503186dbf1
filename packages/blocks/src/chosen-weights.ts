import type { ParameterSpec, Weights } from '@detailflow/core';

/** The weights of a model in its own order, without the tables and statistics that its file holds besides. */
export function chosenWeights(weights: Weights, specs: readonly ParameterSpec[]): Weights {
  const found = specs.flatMap(({ name }) => {
    const weight = weights.get(name);
    return weight ? [[name, weight] as const] : [];
  });
  return new Map(found);
}
