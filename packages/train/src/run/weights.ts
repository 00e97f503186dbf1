import {
  DetailFlowError,
  type ParameterSpec,
  readFloat32,
  type Weights,
  weightFromArray,
} from '@detailflow/core';
import type { Arrays } from '../initialise';
import type { Snapshot } from './checkpoint-file';

/** Arrays as the weights of a model. */
export function weightsOf(specs: readonly ParameterSpec[], arrays: Arrays): Weights {
  return new Map(
    specs.map(({ name, shape }) => [name, weightFromArray(name, shape, arrays.get(name) as Float32Array)]),
  );
}

/**
 * Weights as arrays.
 * @throws DetailFlowError `weights` when one is missing
 */
export async function readArrays(specs: readonly ParameterSpec[], weights: Weights): Promise<Arrays> {
  const arrays = new Map<string, Float32Array>();
  for (const { name } of specs) {
    const weight = weights.get(name);
    if (!weight) throw new DetailFlowError('weights', 'is missing', { entry: name });
    arrays.set(name, await readFloat32(weight));
  }
  return arrays;
}

/**
 * Parameters of a checkpoint, or their running means where it has those; frozen ones have none.
 * @throws DetailFlowError `weights` when one is missing or has another shape
 */
export function parametersOf(
  { tensors }: Snapshot,
  specs: readonly ParameterSpec[],
  { hasMeans }: { readonly hasMeans: boolean },
): Arrays {
  return new Map(
    specs.map(({ name, shape }) => {
      const tensor = (hasMeans ? tensors[`ema.${name}`] : undefined) ?? tensors[`param.${name}`];
      if (tensor?.type === 'float32' && tensor.dims.join() === shape.join()) {
        return [name, tensor.data as Float32Array];
      }
      throw new DetailFlowError('weights', `the checkpoint does not have it as [${shape}]`, { entry: name });
    }),
  );
}
