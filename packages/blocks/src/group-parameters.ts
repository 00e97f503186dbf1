import type { ParameterSpec } from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { ropeTransformerParameters } from './rope-transformer';

/** Names (those of the official state dict) and shapes of every weight of an AR model. */
export function groupParameters(config: GroupTransformerConfig): ParameterSpec[] {
  const { dim, vocabularySize, classes, groupSize } = config;
  return [
    { name: 'cls_embedding.embedding_table.weight', shape: [classes + 1, dim] },
    { name: 'tok_embeddings.weight', shape: [vocabularySize, dim] },
    ...(groupSize > 1
      ? [{ name: 'spe_tok_embeddings.special_embeddings.weight', shape: [groupSize - 1, dim] }]
      : []),
    ...ropeTransformerParameters(config),
  ];
}

/** Names that checkpoints may hold besides: computed tables, and an empty special embedding where g = 1. */
export const ignoredGroupWeights: readonly string[] = ['freqs_cis', 'spe_tok_embeddings.'];
