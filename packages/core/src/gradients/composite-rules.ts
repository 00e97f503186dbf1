import { exp, mul, sub } from '../ops/elementwise';
import { sum } from '../ops/reduce';
import type { GradientRule } from './rule';

/** Composites whose gradient is shorter from their result than through their decomposition. */
export const compositeRules: Readonly<Record<string, GradientRule>> = {
  softmax: ({ output, upstream }) => {
    const weighted = mul(upstream, output);
    return [sub(weighted, mul(output, sum(weighted, [-1])))];
  },
  logSoftmax: ({ output, upstream }) => [sub(upstream, mul(exp(output), sum(upstream, [-1])))],
};
