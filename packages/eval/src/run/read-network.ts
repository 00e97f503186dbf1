import { isWeightsPath, readTorchCheckpoint, stateDict, type WeightFiles } from '@detailflow/checkpoint';
import { openFile, openWeightsPath } from '@detailflow/checkpoint/node';
import {
  DetailFlowError,
  type ParameterSpec,
  readFloat32,
  type Weight,
  type Weights,
  weightFromArray,
} from '@detailflow/core';

/**
 * Weights of a .pth or .safetensors file, or of the files that an index lists, held in memory; entries that are not asked
 * for are left out.
 * @throws DetailFlowError `weights` naming what is missing or has another shape; `io`, `format`
 */
export async function readNetwork(path: string, specs: readonly ParameterSpec[]): Promise<Weights> {
  const files = await openNetwork(path);
  try {
    const weights = new Map<string, Weight>();
    for (const { name, shape } of specs) {
      const weight = files.weights.get(name);
      if (!weight || weight.shape.join() !== shape.join()) {
        const is = weight ? `is [${weight.shape}]` : 'is missing';
        throw new DetailFlowError('weights', `${is}, must be [${shape}]`, { file: path, entry: name });
      }
      weights.set(name, weightFromArray(name, shape, await readFloat32(weight)));
    }
    return weights;
  } finally {
    await files.close();
  }
}

/** Opens the weights of a network by the path of a .pth file, a .safetensors file or an index. */
export async function openNetwork(path: string): Promise<WeightFiles> {
  if (isWeightsPath(path)) return openWeightsPath(path);
  const file = await openFile(path);
  try {
    const weights = stateDict(await readTorchCheckpoint(file));
    return { weights, metadata: new Map(), file: path, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}
