import type { HalfRule } from '@detailflow/checkpoint';
import type { Weights } from '@detailflow/core';

/** How a tokenizer of LlamaGen is known, which is FlexVAR's as well. */
export const vqRule: HalfRule = {
  what: 'a VQ tokenizer of LlamaGen',
  places: [['model'], ['state_dict'], []],
  settingsAt: [['args']],
  sections: ['tokenizer', 'vq', 'vae'],
  same: [
    ['imageSize', 'image_size'],
    ['isNormalised', 'codebook_l2_norm'],
  ],
  matches: (weights) =>
    weights.has('encoder.conv_blocks.0.res.0.conv1.weight') && weights.has('quantize.embedding.weight'),
};

/** How a GPT is known: the first of these that official samplers find, or the file itself (FSDP). */
export const gptRule = (kind: 'llamagen' | 'par'): HalfRule => ({
  what: kind === 'par' ? 'a transformer of PAR' : 'a transformer of LlamaGen',
  places: [['model'], ['module'], ['state_dict'], []],
  settingsAt: [['args']],
  sections: ['ar', 'gpt'],
  same: [
    ['tokens', 'block_size', 'imageSize', 'image_size', 'downsampleSize', 'downsample_size'],
    ['heads', 'n_head'],
    ['kvHeads', 'n_kv_head'],
  ],
  // DetailFlow's transformer has the same names; its config.json says how large a group is.
  matches: (weights, { settings }) =>
    isGpt(weights) &&
    isParallel(weights) === (kind === 'par') &&
    settings.group_size === undefined &&
    settings.learnable_tok_embeddings === undefined,
});

const isGpt = (weights: Weights) =>
  weights.has('tok_embeddings.weight') && weights.has('layers.0.attention.wqkv.weight');

const SPECIAL = 'spe_tok_embeddings.special_embeddings.weight';

/** LlamaGen's own have no special tokens, or an empty list of them. */
const isParallel = (weights: Weights) => (weights.get(SPECIAL)?.shape[0] ?? 0) > 0;
