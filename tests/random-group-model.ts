import { createGroupTokenModel, type GroupTransformerConfig, groupParameters } from '@detailflow/blocks';
import { type Backend, exponentialNoise, weightFromArray } from '@detailflow/core';

/** A model of groups with random weights, the same every time, on any backend. */
export function randomGroupModel(config: GroupTransformerConfig) {
  const weights = new Map(
    groupParameters(config).map(({ name, shape }, i) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const data = exponentialNoise({ seed: i, position: 0, count }).map((e) => (e - 0.7) / 2);
      return [name, weightFromArray(name, shape, data)];
    }),
  );
  return (backend: Backend) => createGroupTokenModel({ config, weights, backend });
}
