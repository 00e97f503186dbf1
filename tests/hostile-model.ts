import { tokenModelParameters } from '@detailflow/ar-model';
import { fileTree } from '@detailflow/checkpoint';
import { bytesSource, type ParameterSpec } from '@detailflow/core';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { expect } from 'vitest';
import { concat, utf8 } from '../packages/checkpoint/src/test-files';
import { withLength } from './refused';

// Configurations and weights of strangers: strange values are refused where the model is opened, before they cost
// time or memory, and weights that are not finite end in an error and not in a picture.

const tower = { width: 4, heads: 2, layers: 1, mlpWidth: 4, patchSize: 2, positionGrid: 2 };
/** A model of the smallest size, as its card has it. */
export const tokenizerConfig = {
  imageSize: 8,
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  codebookSize: 4,
  codebookDim: 2,
  encoder: tower,
  decoder: tower,
  causalEncoder: true,
  causalDecoder: false,
  correction: false,
  resolutionPower: 1.5,
};
export const arConfig = {
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  vocabularySize: 4,
  classes: 2,
  dim: 8,
  layers: 1,
  heads: 2,
  kvHeads: 2,
  hiddenDim: 8,
  ropeBase: 10000,
  normEpsilon: 1e-5,
};

/** A safetensors file of weights of one value. */
export function weightsFile(specs: readonly ParameterSpec[], value = 0.1): Uint8Array {
  let at = 0;
  const entries = specs.map(({ name, shape }) => {
    const begin = at;
    at += 4 * shape.reduce((a, b) => a * b, 1);
    return [name, { dtype: 'F32', shape, data_offsets: [begin, at] }];
  });
  const header = utf8(JSON.stringify(Object.fromEntries(entries)));
  return concat(withLength(header), new Uint8Array(new Float32Array(at / 4).fill(value).buffer));
}

/** The card of its bundle. */
export const card = {
  format: 'detailflow',
  version: 1,
  name: 'x',
  license: 'MIT',
  tokenizer: { config: tokenizerConfig, weights: 'tokenizer.safetensors' },
  ar: { config: arConfig, weights: 'ar.safetensors' },
};

const memoryTree = (files: Record<string, Uint8Array | string>) =>
  fileTree(
    'model',
    new Map(
      Object.entries(files).map(([name, bytes]) => [
        name,
        bytesSource(typeof bytes === 'string' ? utf8(bytes) : bytes, `model/${name}`),
      ]),
    ),
  );

/** The bundle with this as its card. */
export const bundle = (config: string) =>
  memoryTree({
    'config.json': config,
    'tokenizer.safetensors': weightsFile(tokenizerParameters(tokenizerConfig)),
    'ar.safetensors': weightsFile(tokenModelParameters(arConfig)),
  });

/** The card with a piece of its JSON replaced. */
export const changed = (from: string, to: string) => {
  const text = JSON.stringify(card);
  expect(text).toContain(from);
  return text.replace(from, () => to);
};

/** What an official tokenizer of its size says of itself. */
export const officialConfig = {
  max_image_size: 8,
  codebook_size: 4,
  codebook_embed_dim: 2,
  num_latent_tokens: 4,
  enc_patch_size: 2,
  dec_patch_size: 2,
  group_size: 2,
};
/** An official tokenizer with this beside it. */
export const official = (yaml: string, config: object = officialConfig) =>
  memoryTree({
    'tokenizer/config.json': JSON.stringify(config),
    'tokenizer/config.yaml': yaml,
    'tokenizer/siglip2_vision.json': JSON.stringify({
      encoder: { num_attention_heads: 2 },
      decoder: { num_attention_heads: 2 },
    }),
    'tokenizer/model.safetensors': weightsFile(tokenizerParameters(tokenizerConfig)),
  });
