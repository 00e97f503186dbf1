import type { ParameterSpec } from '@detailflow/core';
import type { TokenizerConfig, TowerConfig } from './config';

/** Names (those of the official state dict) and shapes of every weight of a tokenizer. */
export function tokenizerParameters(config: TokenizerConfig): ParameterSpec[] {
  const { encoder, decoder, tokens, codebookDim, codebookSize } = config;
  const specs: ParameterSpec[] = [
    { name: 'encoder.latent_tokens', shape: [1, tokens, encoder.width] },
    { name: 'encoder.latent_pos_embed', shape: [1, tokens, encoder.width] },
    ...linear('encoder.visual_model.embeddings.patch_embedding', 3 * encoder.patchSize ** 2, encoder.width),
    ...tower('encoder.visual_model', encoder),
    ...linear('quant_conv', encoder.width, codebookDim),
    { name: 'quantize.embedding.weight', shape: [codebookSize, codebookDim] },
    ...linear('post_quant_conv', codebookDim, decoder.width),
    { name: 'decoder.mask_token', shape: [1, 1, decoder.width] },
    { name: 'decoder.latent_pos_embed', shape: [1, tokens, decoder.width] },
    ...tower('decoder.visual_model', decoder),
    ...linear('decoder.to_pixel.model', decoder.width, 3 * decoder.patchSize ** 2),
  ];
  if (config.correction) {
    specs.push({ name: 'encoder.refined_tokens', shape: [1, tokens, encoder.width] });
    specs.push(...linear('refine_conv', codebookDim, encoder.width));
  }
  return specs;
}

/**
 * What official checkpoints hold besides: statistics, and what only training uses: the frozen network of the alignment
 * losses, and the projections to its features of the first token and (REPA) of the decoder's patches.
 */
export const ignoredTokenizerWeights: readonly string[] = [
  'quantize.codebook_used',
  'repa_model.',
  'global_token_proj.',
  'projection.',
];

function tower(prefix: string, { width, mlpWidth, layers, positionGrid }: TowerConfig): ParameterSpec[] {
  const specs: ParameterSpec[] = [
    { name: `${prefix}.embeddings.position_embedding.weight`, shape: [positionGrid ** 2, width] },
  ];
  for (let i = 0; i < layers; i++) {
    const layer = `${prefix}.encoder.layers.${i}`;
    specs.push(
      ...norm(`${layer}.layer_norm1`, width),
      ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((name) =>
        linear(`${layer}.self_attn.${name}`, width, width),
      ),
      ...norm(`${layer}.layer_norm2`, width),
      ...linear(`${layer}.mlp.fc1`, width, mlpWidth),
      ...linear(`${layer}.mlp.fc2`, mlpWidth, width),
    );
  }
  return [...specs, ...norm(`${prefix}.post_layernorm`, width)];
}

const linear = (name: string, from: number, to: number): ParameterSpec[] => [
  { name: `${name}.weight`, shape: [to, from] },
  { name: `${name}.bias`, shape: [to] },
];

const norm = (name: string, width: number): ParameterSpec[] => [
  { name: `${name}.weight`, shape: [width] },
  { name: `${name}.bias`, shape: [width] },
];
