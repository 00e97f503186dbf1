import { stat } from 'node:fs/promises';
import path from 'node:path';
import { siglipVisionParameters } from '@detailflow/blocks';
import { readConfig } from '@detailflow/checkpoint/node';
import {
  type Backend,
  DetailFlowError,
  readFloat32,
  type Weight,
  type Weights,
  weightFromArray,
} from '@detailflow/core';
import { SIGLIP, type SiglipConfig, siglipConfig, siglipWeights } from '@detailflow/features';
import { SiglipNetwork } from '../siglip';
import { openNetwork } from './read-network';

/** Where the files of a tower lie: its weights, and the config.json beside them. */
async function placesOf(source: string): Promise<{ weights: string; config: string }> {
  const isFolder = await stat(source).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  const folder = isFolder ? source : path.dirname(source);
  return {
    weights: isFolder ? path.join(folder, 'model.safetensors') : source,
    config: path.join(folder, 'config.json'),
  };
}

/** Whether a path names SigLIP2: a folder, or a file of weights, with a config.json of its vision tower. */
export async function isSiglip(source: string): Promise<boolean> {
  const { config } = await placesOf(source);
  const found = await readConfig(config).catch(() => undefined);
  const value = found as { vision_config?: unknown; model_type?: unknown } | undefined;
  return typeof value === 'object' && value !== null && /^siglip/.test(`${value.model_type ?? ''}`);
}

/**
 * Reads the vision tower of a folder of `google/siglip2-*` (config.json, model.safetensors or an index of several), or of a file in
 * one; all of it is then in memory.
 * `layers`: only the first so many.
 * @throws DetailFlowError `io`, `format`, `config`, `weights`
 */
export async function readSiglip(
  source: string,
  { layers }: { readonly layers?: number } = {},
): Promise<{ config: SiglipConfig; weights: Weights; file: string }> {
  const places = await placesOf(source);
  const files = await openNetwork(places.weights);
  try {
    const found = siglipWeights(files.weights, places.weights);
    const whole = siglipConfig(await readConfig(places.config), found, places.config);
    if (layers !== undefined && layers > whole.layers) {
      throw new DetailFlowError('config', `has ${whole.layers} layers, ${layers} are asked for`, {
        file: source,
      });
    }
    const config = { ...whole, layers: layers ?? whole.layers };
    const weights = new Map<string, Weight>();
    for (const { name, shape } of siglipVisionParameters(SIGLIP, config)) {
      const weight = found.get(name);
      if (!weight || weight.shape.join() !== shape.join()) {
        const is = weight ? `is [${weight.shape}]` : 'is missing';
        throw new DetailFlowError('weights', `${is}, must be [${shape}]`, {
          file: places.weights,
          entry: name,
        });
      }
      weights.set(name, weightFromArray(name, shape, await readFloat32(weight)));
    }
    return { config, weights, file: places.weights };
  } finally {
    await files.close();
  }
}

/** Opens SigLIP2's vision tower as a network. @throws DetailFlowError as {@link readSiglip} */
export async function openSiglip(source: string, backend: Backend): Promise<SiglipNetwork> {
  return new SiglipNetwork({ ...(await readSiglip(source)), backend });
}
