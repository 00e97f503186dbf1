import { type VitConfig, vitParameters } from '@detailflow/blocks';
import { DetailFlowError, readFloat32, type Weight, type Weights, weightFromArray } from '@detailflow/core';
import { VIT, vitHeadParameters, vitNetworkConfig, vitNetworkWeights } from '@detailflow/features';
import { openNetwork } from './read-network';

/**
 * Reads a vision transformer with timm's names, or those of DINO's own files, from a .pth or .safetensors file; all of it is then in
 * memory. Its classifier is among the weights where the file has one.
 * @throws DetailFlowError `io`, `format`, `weights`, `config`
 */
export async function readVit(file: string): Promise<{ config: VitConfig; weights: Weights }> {
  const files = await openNetwork(file);
  try {
    const found = vitNetworkWeights(files.weights, file);
    const config = vitNetworkConfig(found, { file });
    const classes = found.get(`${VIT}head.weight`)?.shape[0];
    const specs = [
      ...vitParameters(VIT, config),
      ...(classes === undefined ? [] : vitHeadParameters(config, classes)),
    ];
    const weights = new Map<string, Weight>();
    for (const { name, shape } of specs) {
      const weight = found.get(name);
      if (!weight || weight.shape.join() !== shape.join()) {
        const is = weight ? `is [${weight.shape}]` : 'is missing';
        const entry = name.slice(VIT.length);
        throw new DetailFlowError('weights', `${is}, must be [${shape}]`, { file, entry });
      }
      weights.set(name, weightFromArray(name, shape, await readFloat32(weight)));
    }
    return { config, weights };
  } finally {
    await files.close();
  }
}
