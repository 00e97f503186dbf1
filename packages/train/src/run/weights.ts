import { type ParameterSpec, type Weights, weightFromArray } from '@detailflow/core';
import type { Arrays } from '../initialise';

/** Arrays as the weights of a model. */
export function weightsOf(specs: readonly ParameterSpec[], arrays: Arrays): Weights {
  return new Map(
    specs.map(({ name, shape }) => [name, weightFromArray(name, shape, arrays.get(name) as Float32Array)]),
  );
}
