import type { Guidance } from '@detailflow/core';

/**
 * Guidance that ends after an interval, as `cfg_interval` of the official samplers does: a counter runs over the tokens that
 * are drawn one by one after the first, and again from 0 over those that are drawn in groups; steps where it exceeds the
 * interval are not guided. A negative interval, such as the official default of -1, never ends. Source: docs/family/llamagen.md sections 2 and 3.
 */
export const intervalGuidance =
  ({ causalTokens }: { readonly causalTokens: number }, interval: number): Guidance =>
  ({ position }, cfg) => {
    const counter = position < causalTokens ? position - 1 : position - causalTokens;
    return interval >= 0 && counter > interval ? 1 : cfg;
  };
