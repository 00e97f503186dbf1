import { mixtureOfCodes } from '@detailflow/blocks';
import {
  addDims,
  type Graph,
  multiplyDims,
  reshape,
  select,
  symbol,
  trace,
  type Value,
} from '@detailflow/core';
import type { TokenizerConfig } from './config';
import {
  codebookEntries,
  decoderTower,
  embedPatches,
  encoderTower,
  initialLatents,
  nearestCodes,
  positionEmbedding,
  preQuantise,
  refinedLatents,
  tokenizerWeights,
  toPixels,
} from './model';

const batch = symbol('batch');
/** Patches a side. */
const side = symbol('side');
/** Latent tokens in use. */
const tokens = symbol('tokens');
const length = addDims(multiplyDims(side, side), tokens);

/**
 * The encoder and quantiser, for any batch, image size and token count; one graph serves both passes.
 * Feeds: images [B, 3, S, S], resize [S/p, 16], positions i32 [n]; `visible` bool [L, L] for a causal encoder;
 * with self-correction `prefix` i32 [B, n], `isPrefix` bool [n] and `second` bool [1], which chooses the pass.
 * Outputs: h [B, n, d] before normalisation, nearest i32 [B, n, min(50, K)]; of a tokenizer of mixtures latents [B, n, d] instead.
 */
export function encoderGraph(config: TokenizerConfig): Graph {
  return trace((g): Record<string, Value> => {
    const p = tokenizerWeights(g, config);
    const size = multiplyDims(side, config.encoder.patchSize);
    const images = g.input('images', 'f32', [batch, 3, size, size]);
    const resize = g.input('resize', 'f32', [side, config.encoder.positionGrid]);
    const positions = g.input('positions', 'i32', [tokens]);
    const visible = config.causalEncoder ? g.input('visible', 'bool', [length, length]) : undefined;
    let latents = initialLatents(p, positions);
    if (config.correction) {
      const prefix = g.input('prefix', 'i32', [batch, tokens]);
      const isPrefix = g.input('isPrefix', 'bool', [tokens]);
      const second = g.input('second', 'bool', [1]);
      latents = select(
        reshape(second, [1, 1, 1]),
        refinedLatents(p, positions, prefix, isPrefix, config),
        latents,
      );
    }
    const patches = embedPatches(p, config, images, resize);
    const h = preQuantise(p, encoderTower(p, config, { patches, latents, positions, visible }).latents);
    if (config.mixture) {
      return { latents: mixtureOfCodes(h, p('quantize.embedding.weight'), config.mixture).latents };
    }
    return { h, nearest: nearestCodes(p, config, h) };
  });
}

/**
 * The decoder, for any batch, image size and token count.
 * Feeds: codes i32 [B, n], or latents f32 [B, n, d] of a tokenizer of mixtures; positions i32 [n], resize [S/p, 16]; `visible`
 * bool [L, L] for a causal decoder.
 * Outputs: pixels [B, 3, S, S].
 */
export function decoderGraph(config: TokenizerConfig): Graph {
  return trace((g) => {
    const p = tokenizerWeights(g, config);
    const quantised = config.mixture
      ? g.input('latents', 'f32', [batch, tokens, config.codebookDim])
      : codebookEntries(p, g.input('codes', 'i32', [batch, tokens]), config);
    const positions = g.input('positions', 'i32', [tokens]);
    const resize = g.input('resize', 'f32', [side, config.decoder.positionGrid]);
    const visible = config.causalDecoder ? g.input('visible', 'bool', [length, length]) : undefined;
    const patches = decoderTower(p, config, {
      quantised,
      positions,
      embedding: positionEmbedding(p, 'decoder.visual_model', config.decoder, resize),
      visible,
    });
    return { pixels: toPixels(p, config, patches, side) };
  });
}
