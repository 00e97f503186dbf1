import { groupGenerator, type TokenModelConfig } from '@detailflow/ar-model';
import type { GeneratorGraphs } from '@detailflow/checkpoint';
import { checkOptions, type Graph, resizeMatrix, slice, symbol, trace } from '@detailflow/core';
import {
  attentionMask,
  codebookEntries,
  createResolutionMap,
  decoderTower,
  positionEmbedding,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerWeights,
  toPixels,
} from '@detailflow/tokenizer';

const batch = symbol('batch');

/** DetailFlow's whole generator, label and noise to pixels. */
export function generatorGraphs(
  tokenizer: TokenizerConfig,
  ar: TokenModelConfig,
  options: { readonly guidance?: 'constant' | 'gradual' } = {},
): GeneratorGraphs {
  checkOptions('generatorGraphs', options, { guidance: true });
  const { width, ...loop } = groupGenerator(ar, options);
  return { ...loop, last: pictureGraph(tokenizer, ar.tokens, width) };
}

function pictureGraph(config: TokenizerConfig, tokens: number, length: number): Graph {
  const { groupSize, causalTokens } = config;
  const size = createResolutionMap(resolutionSettings(config)).tokenToDecOutRes(tokens);
  const side = size / config.decoder.patchSize;
  const grid = config.decoder.positionGrid;
  const patches = side * side;
  return trace((g) => {
    const p = tokenizerWeights(g, config);
    const codes = slice(g.input('codes', 'i32', [batch, length]), 1, 0, tokens);
    const mask = attentionMask({
      patches,
      tokens,
      groupSize,
      causalTokens,
      patchesSeeLatents: true,
      latentsSeePatches: false,
    });
    const out = decoderTower(p, config, {
      quantised: codebookEntries(p, codes, config),
      positions: g.constant(
        Int32Array.from({ length: tokens }, (_, i) => i),
        [tokens],
        'i32',
      ),
      embedding: positionEmbedding(
        p,
        'decoder.visual_model',
        config.decoder,
        g.constant(resizeMatrix('bilinear-antialias', grid, side), [side, grid]),
      ),
      visible: config.causalDecoder
        ? g.constant(mask, [patches + tokens, patches + tokens], 'bool')
        : undefined,
    });
    return { tokens: codes, pixels: toPixels(p, config, out, side) };
  });
}
