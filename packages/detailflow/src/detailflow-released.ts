import { type TokenModelConfig, toOfficialTokenModelConfig } from '@detailflow/ar-model';
import type { ReleasedFile } from '@detailflow/checkpoint';
import { type Weights, weightFromArray } from '@detailflow/core';
import { type TokenizerConfig, toOfficialTokenizerConfig } from '@detailflow/tokenizer';

/** How many codes the official layout remembers. */
const RECENT_CODES = 65536;

interface Half<Config> {
  readonly config: Config;
  readonly weights: Weights;
}

/** A model in the layout of the official training: tokenizer/ and ar/. Which codes were used lately is forgotten. */
export function releasedDetailFlowFiles(
  tokenizer: Half<TokenizerConfig>,
  ar: Half<TokenModelConfig> | undefined,
): ReleasedFile[] {
  const { config, args, vision } = toOfficialTokenizerConfig(tokenizer.config);
  const name = 'quantize.codebook_used';
  const used = weightFromArray(name, [RECENT_CODES], new Float32Array(RECENT_CODES));
  const weights: Weights = new Map([...tokenizer.weights, [name, used]]);
  return [
    { path: 'tokenizer/config.json', json: config },
    { path: 'tokenizer/config.yaml', json: args },
    { path: 'tokenizer/siglip2_vision.json', json: vision },
    { path: `tokenizer/${CHECKPOINT}`, torch: { model: weights, steps: 0 } },
    ...(ar
      ? [
          { path: 'ar/config.json', json: toOfficialTokenModelConfig(ar.config) },
          { path: 'ar/config.yaml', json: { gpt_type: 'c2i', num_classes: ar.config.classes } },
          { path: `ar/${CHECKPOINT}`, torch: { ema: ar.weights, steps: 0 } },
        ]
      : []),
  ];
}

const CHECKPOINT = 'checkpoints/0000000.pt';
