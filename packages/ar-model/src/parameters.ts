import type { ParameterSpec } from '@detailflow/core';
import type { TokenModelConfig } from './config';

/** Names (those of the official state dict) and shapes of every weight of an AR model. */
export function tokenModelParameters(config: TokenModelConfig): ParameterSpec[] {
  const { dim, hiddenDim, heads, kvHeads, vocabularySize, classes, groupSize } = config;
  const headDim = dim / heads;
  const specs: ParameterSpec[] = [
    { name: 'cls_embedding.embedding_table.weight', shape: [classes + 1, dim] },
    { name: 'tok_embeddings.weight', shape: [vocabularySize, dim] },
  ];
  if (groupSize > 1)
    specs.push({ name: 'spe_tok_embeddings.special_embeddings.weight', shape: [groupSize - 1, dim] });
  for (let i = 0; i < config.layers; i++) {
    const layer = `layers.${i}`;
    specs.push(
      { name: `${layer}.attention_norm.weight`, shape: [dim] },
      { name: `${layer}.attention.wqkv.weight`, shape: [(heads + 2 * kvHeads) * headDim, dim] },
      { name: `${layer}.attention.wo.weight`, shape: [dim, dim] },
      { name: `${layer}.ffn_norm.weight`, shape: [dim] },
      { name: `${layer}.feed_forward.w1.weight`, shape: [hiddenDim, dim] },
      { name: `${layer}.feed_forward.w3.weight`, shape: [hiddenDim, dim] },
      { name: `${layer}.feed_forward.w2.weight`, shape: [dim, hiddenDim] },
    );
  }
  return [
    ...specs,
    { name: 'norm.weight', shape: [dim] },
    { name: 'output.weight', shape: [vocabularySize, dim] },
  ];
}

/** Names that checkpoints may hold besides: computed tables, and an empty special embedding where g = 1. */
export const ignoredTokenModelWeights: readonly string[] = ['freqs_cis', 'spe_tok_embeddings.'];
