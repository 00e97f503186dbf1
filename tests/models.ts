import { officialTokenModelConfig, type TokenModelConfig } from '@detailflow/ar-model';
import { type Weight, type Weights, weightFromArray } from '@detailflow/core';
import { officialTokenizerConfig, type TokenizerConfig } from '@detailflow/tokenizer';
import { floats, golden, goldenJson } from './golden';

/** Weights of a golden safetensors file, in memory. */
function goldenWeights(file: string): Weights {
  const entries = Object.entries(golden(file)).map(([name, tensor]): [string, Weight] => [
    name,
    weightFromArray(name, tensor.shape, floats(tensor)),
  ]);
  return new Map(entries);
}

/** The tokenizer of golden configuration A or B. */
export function goldenTokenizer(set: 'A' | 'B'): { config: TokenizerConfig; weights: Weights } {
  const weights = goldenWeights(`${set}/tokenizer/model.safetensors`);
  const config = officialTokenizerConfig({
    config: goldenJson(`${set}/tokenizer/config.json`),
    vision: goldenJson(`${set}/tokenizer/siglip2_vision.json`),
    weights,
  });
  return { config, weights };
}

/** The AR model of golden configuration A or B. */
export function goldenTokenModel(set: 'A' | 'B'): { config: TokenModelConfig; weights: Weights } {
  return {
    config: officialTokenModelConfig(goldenJson(`${set}/ar/config.json`)),
    weights: goldenWeights(`${set}/ar/ema.safetensors`),
  };
}
