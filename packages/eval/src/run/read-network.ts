import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import {
  DetailFlowError,
  openSafetensors,
  type ParameterSpec,
  readFloat32,
  type Weight,
  type Weights,
  weightFromArray,
} from '@detailflow/core';

/**
 * Weights of a .pth or .safetensors file, held in memory; entries that are not asked for are left out.
 * @throws DetailFlowError `weights` naming what is missing or has another shape; `io`, `format`
 */
export async function readNetwork(path: string, specs: readonly ParameterSpec[]): Promise<Weights> {
  const file = await openFile(path);
  try {
    const found = await readWeights(file, path);
    const weights = new Map<string, Weight>();
    for (const { name, shape } of specs) {
      const weight = found.get(name);
      if (!weight || weight.shape.join() !== shape.join()) {
        const is = weight ? `is [${weight.shape}]` : 'is missing';
        throw new DetailFlowError('weights', `${is}, must be [${shape}]`, { file: path, entry: name });
      }
      weights.set(name, weightFromArray(name, shape, await readFloat32(weight)));
    }
    return weights;
  } finally {
    await file.close();
  }
}

const readWeights = async (file: OpenFile, path: string): Promise<Weights> =>
  path.endsWith('.safetensors')
    ? (await openSafetensors(file)).weights
    : stateDict(await readTorchCheckpoint(file));
