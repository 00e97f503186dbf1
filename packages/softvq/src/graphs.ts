import { parameterAccess } from '@detailflow/blocks';
import { type Graph, symbol, trace, type Value } from '@detailflow/core';
import type { SoftVqConfig } from './config';
import { codesOf, decodeLatents, encodeImages, latentsOfCodes, posteriorOf, softQuantise } from './model';
import { softVqParameters } from './parameters';

const batch = symbol('batch');

// Shapes: B batch, S side of an image, L latents, d their width.

/**
 * Input: images f32 [B, 3, S, S] in [-1, 1]. Outputs: latents f32 [B, L, d] as they are decoded; for the kind `vq` also
 * codes i32 [B, L]; for `kl`, whose latents are the means, also logVariance f32 [B, L, d].
 */
export function latentEncoderGraph(config: SoftVqConfig): Graph {
  return trace((g): Record<string, Value> => {
    const p = parameterAccess(g, softVqParameters(config));
    const images = g.input('images', 'f32', [batch, 3, config.imageSize, config.imageSize]);
    const h = encodeImages(p, config, images);
    if (config.kind === 'soft') return { latents: softQuantise(p, config, h).latents };
    if (config.kind === 'ae') return { latents: h };
    if (config.kind === 'kl') {
      const { mean, logVariance } = posteriorOf(config, h);
      return { latents: mean, logVariance };
    }
    const codes = codesOf(p, config, h);
    return { latents: latentsOfCodes(p, config, codes), codes };
  });
}

/** Input: latents f32 [B, L, d]. Output: pixels f32 [B, 3, S, S], about [-1, 1]. */
export function latentDecoderGraph(config: SoftVqConfig): Graph {
  return trace((g) => {
    const p = parameterAccess(g, softVqParameters(config));
    const latents = g.input('latents', 'f32', [batch, config.tokens, config.latentDim]);
    return { pixels: decodeLatents(p, config, latents) };
  });
}

/** The kind `vq`. Input: codes i32 [B, L]. Output: latents f32 [B, L, d]. */
export function codeLatentsGraph(config: SoftVqConfig): Graph {
  return trace((g) => {
    const p = parameterAccess(g, softVqParameters(config));
    return { latents: latentsOfCodes(p, config, g.input('codes', 'i32', [batch, config.tokens])) };
  });
}
