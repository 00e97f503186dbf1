import type { Guidance } from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';

type Groups = Pick<GroupTransformerConfig, 'tokens' | 'groupSize' | 'causalTokens'>;

/** Tokens of each step: the first c one by one, then groups of g. */
export function groupSchedule({ tokens, groupSize, causalTokens }: Groups): number[] {
  const groups = (tokens - causalTokens) / groupSize;
  return [...Array<number>(causalTokens).fill(1), ...Array<number>(groups).fill(groupSize)];
}

/**
 * Lowers the scale from group to group after the causal tokens: group i of M has cfg (M - i + 1) / (M + 1).
 * Source: docs/method.md section 4.
 */
export const gradualGuidance =
  ({ tokens, groupSize, causalTokens }: Groups): Guidance =>
  ({ position }, cfg) => {
    if (position < causalTokens) return cfg;
    const groups = tokens / groupSize;
    return (cfg * (groups - Math.floor(position / groupSize) + 1)) / (groups + 1);
  };
