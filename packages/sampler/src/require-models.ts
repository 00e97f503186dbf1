import { DetailFlowError, describe } from '@detailflow/core';

/** @throws DetailFlowError `invalid-argument` for what has no tokens, and so is neither a model nor a tokenizer */
export function requireModels(models: Readonly<Record<string, { readonly tokens: number }>>): void {
  for (const [name, model] of Object.entries(models)) {
    if (model?.tokens > 0) continue;
    throw new DetailFlowError('invalid-argument', `the ${name} is ${describe(model)}; give one`);
  }
}
