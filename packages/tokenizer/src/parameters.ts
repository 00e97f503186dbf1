import { siglipTowerParameters, siglipVisionParameters, weightAndBias } from '@detailflow/blocks';
import type { ParameterSpec } from '@detailflow/core';
import type { TokenizerConfig } from './config';

/** Names (those of the official state dict) and shapes of every weight of a tokenizer. */
export function tokenizerParameters(config: TokenizerConfig): ParameterSpec[] {
  const { encoder, decoder, tokens, codebookDim, codebookSize } = config;
  const specs: ParameterSpec[] = [
    { name: 'encoder.latent_tokens', shape: [1, tokens, encoder.width] },
    { name: 'encoder.latent_pos_embed', shape: [1, tokens, encoder.width] },
    ...siglipVisionParameters('encoder.visual_model', encoder),
    ...weightAndBias('quant_conv', [codebookDim, encoder.width]),
    { name: 'quantize.embedding.weight', shape: [codebookSize, codebookDim] },
    ...weightAndBias('post_quant_conv', [decoder.width, codebookDim]),
    { name: 'decoder.mask_token', shape: [1, 1, decoder.width] },
    { name: 'decoder.latent_pos_embed', shape: [1, tokens, decoder.width] },
    ...siglipTowerParameters('decoder.visual_model', decoder),
    ...weightAndBias('decoder.to_pixel.model', [3 * decoder.patchSize ** 2, decoder.width]),
  ];
  if (config.correction) {
    specs.push({ name: 'encoder.refined_tokens', shape: [1, tokens, encoder.width] });
    specs.push(...weightAndBias('refine_conv', [encoder.width, codebookDim]));
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

/** Whether a weight is of the decoder's side: codes do not depend on it (official `finetune_decoder`). */
export const isOfDecoder = (name: string): boolean => /decoder\.|post_quant_conv/.test(name);
