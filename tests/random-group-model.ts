import { createGroupTokenModel, type GroupTransformerConfig, groupParameters } from '@detailflow/blocks';
import { type Backend, exponentialNoise, type Weights, weightFromArray } from '@detailflow/core';

/** Random weights, the same every time. */
export const groupWeights = (config: GroupTransformerConfig): Weights =>
  new Map(
    groupParameters(config).map(({ name, shape }, i) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const data = exponentialNoise({ seed: i, position: 0, count }).map((e) => (e - 0.7) / 2);
      return [name, weightFromArray(name, shape, data)];
    }),
  );

/** A model of groups with those weights, on any backend. */
export function randomGroupModel(config: GroupTransformerConfig) {
  const weights = groupWeights(config);
  return (backend: Backend) => createGroupTokenModel({ config, weights, backend });
}
