import { type SiglipTowerConfig, siglipPatches, siglipPostNorm, siglipTower } from '@detailflow/blocks';
import {
  ConfigFields,
  DetailFlowError,
  readFloat32,
  type Value,
  type Weight,
  type Weights,
} from '@detailflow/core';
import type { Parameters } from './parameters';

/** A vision tower of SigLIP2. The tokenizer's towers are of the same form. */
export interface SiglipConfig extends SiglipTowerConfig {
  /** Side of a patch in pixels. */
  readonly patchSize: number;
}

/** What weights of a tower begin with here, as in `google/siglip2-*`. */
export const SIGLIP = 'vision_model';

const MOST_LAYERS = 1024;

/**
 * Sizes of a vision tower: those of `vision_config` (or of the object itself) where they stand there, else read off the weights,
 * with which they must agree.
 * @param value config.json of a `google/siglip2-*` repository
 * @param weights names beginning with `vision_model.`: see {@link siglipWeights}
 * @throws DetailFlowError `config`, `weights`
 */
export function siglipConfig(value: unknown, weights: Weights, file?: string): SiglipConfig {
  const outer = new ConfigFields(value, { file });
  const fields =
    outer.raw('vision_config') === undefined
      ? outer
      : new ConfigFields(outer.raw('vision_config'), { file, prefix: 'vision_config' });
  const shapeOf = (name: string, axes: number): readonly number[] => {
    const shape = weights.get(`${SIGLIP}.${name}`)?.shape;
    if (shape?.length === axes) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, {
      ...{ file, entry: `${SIGLIP}.${name}` },
    });
  };
  const [rows, width] = shapeOf('embeddings.position_embedding.weight', 2);
  const [, inputs] = shapeOf('embeddings.patch_embedding.weight', 2);
  const [mlpWidth] = shapeOf('encoder.layers.0.mlp.fc1.weight', 2);
  let layers = 0;
  while (layers < MOST_LAYERS && weights.has(`${SIGLIP}.encoder.layers.${layers}.mlp.fc1.weight`)) layers++;
  const [positionGrid, patchSize] = [Math.sqrt(rows), Math.sqrt(inputs / 3)];
  const heads = fields.count('num_attention_heads');
  const said: readonly [string, number][] = [
    ['hidden_size', width],
    ['intermediate_size', mlpWidth],
    ['num_hidden_layers', layers],
    ['patch_size', patchSize],
  ];
  for (const [name, found] of said) {
    const stated = fields.raw(name) === undefined ? found : fields.count(name);
    if (stated === found) continue;
    throw new DetailFlowError('config', `is ${stated}, the weights say ${found}`, { file, entry: name });
  }
  if (![positionGrid, patchSize].every(Number.isInteger) || width % heads !== 0) {
    throw new DetailFlowError(
      'config',
      `${rows} positions, patches of ${inputs} values and ${heads} heads of ${width} make no tower`,
      { file },
    );
  }
  return { width, heads, layers, mlpWidth, patchSize, positionGrid };
}

/**
 * The weights of a vision tower under one name, from a `google/siglip2-*` file or an official checkpoint of DetailFlow
 * (`repa_model.visual_model.*`). A convolution of patches, as models of one size have it, becomes the matrix that it is.
 * @throws DetailFlowError `weights` when there is no such tower
 */
export function siglipWeights(weights: Weights, file?: string): Weights {
  const prefix = [
    'vision_model.',
    'repa_model.visual_model.',
    'visual_model.',
    'model.vision_model.',
    '',
  ].find((start) => weights.has(`${start}embeddings.patch_embedding.weight`));
  if (prefix === undefined) {
    throw new DetailFlowError('weights', 'holds no vision tower of SigLIP2', {
      ...{ file, entry: 'vision_model.embeddings.patch_embedding.weight' },
    });
  }
  const found = new Map<string, Weight>();
  for (const [name, weight] of weights) {
    if (!name.startsWith(prefix)) continue;
    const own = `${SIGLIP}.${name.slice(prefix.length)}`;
    if (!/^vision_model\.(embeddings|encoder|post_layernorm)\./.test(own)) continue; // the pooling head
    found.set(
      own,
      /patch_embedding\.weight$/.test(own) ? asMatrix({ ...weight, name: own }) : { ...weight, name: own },
    );
  }
  return found;
}

/** A convolution [E, 3, p, p] as the matrix [E, p p 3] that sees (row, column, channel). */
function asMatrix(weight: Weight): Weight {
  if (weight.shape.length !== 4) return weight;
  const [width, channels, side] = weight.shape;
  const plane = side * side;
  return {
    ...{ name: weight.name, dtype: 'f32', shape: [width, channels * plane] },
    async read() {
      const from = await readFloat32(weight);
      const out = new Float32Array(from.length);
      for (let row = 0; row < width; row++) {
        for (let cell = 0; cell < plane; cell++) {
          for (let c = 0; c < channels; c++)
            out[(row * plane + cell) * channels + c] = from[(row * channels + c) * plane + cell];
        }
      }
      return new Uint8Array(out.buffer);
    },
  };
}

/**
 * What DetailFlow takes as SigLIP2's features of patches: the tower's output, with post_layernorm a second time.
 * @param images [B, 3, h p, h p] in [-1, 1]
 * @param resize [h, grid]: resizes the table of positions
 * @returns [B, h h, E]
 */
export function siglipFeatures(p: Parameters, config: SiglipConfig, images: Value, resize: Value): Value {
  const patches = siglipPatches(p, SIGLIP, config, images, resize);
  return siglipPostNorm(p, SIGLIP, siglipTower(p, SIGLIP, config, patches));
}
