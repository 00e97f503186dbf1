// A model so small that it is opened in a millisecond, in both forms it may lie on disk.
import { tokenModelParameters } from '@detailflow/ar-model';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { pickle, pickleOps, safetensors, zip } from './files.mjs';

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 2, positionGrid: 2 };

const tokenizerConfig = {
  imageSize: 8,
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  codebookSize: 4,
  codebookDim: 2,
  encoder: tower,
  decoder: { ...tower, width: 12, heads: 3 },
  causalEncoder: true,
  causalDecoder: false,
  correction: true,
  resolutionPower: 1.5,
};

const tokenModelConfig = {
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  vocabularySize: 4,
  classes: 3,
  dim: 16,
  layers: 1,
  heads: 4,
  kvHeads: 2,
  hiddenDim: 16,
  ropeBase: 10000,
  normEpsilon: 1e-5,
};

export const officialTokenizer = {
  image_size: 8,
  max_image_size: 8,
  codebook_size: 4,
  codebook_embed_dim: 2,
  codebook_l2_norm: true,
  num_codebooks: 1,
  enc_type: 'siglip2',
  dec_type: 'siglip2',
  num_latent_tokens: 4,
  enc_patch_size: 2,
  dec_patch_size: 2,
  causal_encoder: true,
  causal_decoder: false,
  group_size: 2,
  causal_num: null,
};

export const officialTokenModel = {
  dim: 16,
  n_layer: 1,
  n_head: 4,
  n_kv_head: 2,
  multiple_of: 16,
  ffn_dim_multiplier: 0.3,
  rope_base: 10000,
  norm_eps: 1e-5,
  num_classes: 3,
  model_type: 'c2i',
  vocab_size: 4,
  cls_token_num: 1,
  block_size: 4,
  learnable_tok_embeddings: true,
  group_size: 2,
  causal_num: null,
};

export const vision = { encoder: { num_attention_heads: 2 }, decoder: { num_attention_heads: 3 } };

export const trainingYaml = `config: configs/vq.yaml
exp_index:
data_path: ./ImageNet/train
ema: false
codebook_weight: 1.0
lr: 1.0e-4
weight_decay: 5e-2
betas: [0.9, 0.95]
degradation_power: 1.5
causal_num:
dist_url: env://
`;

export const card = {
  format: 'detailflow',
  version: 1,
  name: 'tiny',
  license: 'MIT',
  classNames: ['a', 'b', 'c'],
  recipe: { cfg: 1.5 },
  tokenizer: { config: tokenizerConfig, weights: 'tokenizer.safetensors' },
  ar: { config: tokenModelConfig, weights: 'ar.safetensors' },
};

export const specs = {
  tokenizer: tokenizerParameters(tokenizerConfig),
  ar: tokenModelParameters(tokenModelConfig),
};

const countOf = (shape) => shape.reduce((a, b) => a * b, 1);

/** Header and data of a safetensors file with these weights. */
export function safetensorsParts(list) {
  const header = {};
  let at = 0;
  for (const { name, shape } of list) {
    const end = at + 4 * countOf(shape);
    header[name] = { dtype: 'F32', shape, data_offsets: [at, end] };
    at = end;
  }
  return { header, data: Buffer.alloc(at, 0x3d) };
}

export function safetensorsFile(list) {
  const { header, data } = safetensorsParts(list);
  return safetensors(JSON.stringify(header), data);
}

const stridesOf = (shape) => shape.map((_, i) => countOf(shape.slice(i + 1)));

/** Opcodes and zip members of a .pt file with these weights. */
export function torchParts(list, args = { lr: 1e-4, compile: null, dataset: 'imagenet' }) {
  const tensors = list.map(({ name, shape }, i) => ({
    name,
    shape,
    strides: stridesOf(shape),
    key: String(i),
    count: countOf(shape),
  }));
  const storages = tensors.map(({ key, count }) => ({
    name: `top/data/${key}`,
    data: Buffer.alloc(4 * count, 0x30 + (Number(key) % 64)),
  }));
  return { ops: pickleOps(tensors, args), storages };
}

export function torchMembers(data, storages) {
  return [
    { name: 'top/data.pkl', data },
    { name: 'top/byteorder', data: Buffer.from('little') },
    ...storages,
    { name: 'top/version', data: Buffer.from('3\n') },
  ];
}

export function torchFile(list, args) {
  const { ops, storages } = torchParts(list, args);
  return zip(torchMembers(pickle(ops), storages));
}
