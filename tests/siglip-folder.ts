import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type SiglipTowerConfig, siglipVisionParameters } from '@detailflow/blocks';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { numbers } from './numbers-by-formula';

/** Sizes of the tower of {@link siglipFolder} unless others are asked for. */
export const smallSiglip: SiglipTowerConfig & { readonly patchSize: number } = {
  ...{ width: 8, heads: 2, layers: 3, mlpWidth: 12, patchSize: 4, positionGrid: 2 },
};

/**
 * Writes a folder as `google/siglip2-*` are laid out, its weights by formula of their names, with the text tower and the pooling
 * head that nobody reads.
 * @returns the folder
 */
export async function siglipFolder(
  place: string,
  options: {
    readonly sizes?: Partial<typeof smallSiglip>;
    /** Patches as models of one size have them: a convolution. */
    readonly isConvolution?: boolean;
    /** Over what config.json says of the tower. */
    readonly config?: object;
    /** Weights that are left out. */
    readonly without?: readonly string[];
  } = {},
): Promise<string> {
  const { isConvolution = false, config = {}, without = [] } = options;
  const sizes = { ...smallSiglip, ...options.sizes };
  const { width, patchSize } = sizes;
  const entries = siglipVisionParameters('vision_model', sizes)
    .filter(({ name }) => !without.includes(name))
    .map(({ name, shape }) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const data = numbers(name, count);
      return isConvolution && name.endsWith('patch_embedding.weight')
        ? { name, shape: [width, 3, patchSize, patchSize], data: asConvolution(data, patchSize) }
        : { name, shape, data };
    });
  const others = ['text_model.head.weight', 'vision_model.head.probe', 'logit_scale'];
  const all = [...entries, ...others.map((name) => ({ name, shape: [1], data: Float32Array.of(1) }))];
  const plan = encodeSafetensors(
    all.map((entry) => ({ ...entry, dtype: 'f32' as const })),
    {},
  );
  await mkdir(place, { recursive: true });
  const parts = [plan.header, ...plan.tensors.map(({ entry }) => new Uint8Array(entry.data.buffer))];
  await writeFile(path.join(place, 'model.safetensors'), Buffer.concat(parts));
  const vision = {
    ...{ hidden_size: width, intermediate_size: sizes.mlpWidth, num_hidden_layers: sizes.layers },
    ...{ num_attention_heads: sizes.heads, patch_size: patchSize, ...config },
  };
  const text = JSON.stringify({ model_type: 'siglip2', vision_config: vision });
  await writeFile(path.join(place, 'config.json'), text);
  return place;
}

/** [E, (row, column, channel)] as [E, channel, row, column]. */
function asConvolution(data: Float32Array, patchSize: number): Float32Array {
  const plane = patchSize ** 2;
  return Float32Array.from(data, (_, at) => {
    const [out, inside] = [Math.floor(at / (3 * plane)), at % (3 * plane)];
    return data[out * 3 * plane + (inside % plane) * 3 + Math.floor(inside / plane)];
  });
}
