import {
  type CodeMixture,
  codeVectors,
  type LayerRotation,
  mixedRotation,
  mixtureOfCodes,
  nearestCodes,
  type Parameters,
  patchesPerSide,
  prefixTokens,
  type VitConfig,
  vitBlocks,
  vitPatches,
  vitPatchPlaces,
  vitSequence,
} from '@detailflow/blocks';
import {
  add,
  broadcastTo,
  concat,
  exp,
  extent,
  linear,
  maximum,
  mul,
  neg,
  reshape,
  slice,
  transpose,
  type Value,
} from '@detailflow/core';
import type { SoftVqConfig } from './config';
import { decoderPatches } from './parameters';

// Shapes: B batch, S side of an image, P patches, L latents, d their width, E and E' widths of encoder and decoder, nc codebooks
// of K codes, l = L / nc.

/** Images [B, 3, S, S] in [-1, 1] -> what the quantiser gets, [B, L, d]; [B, L, 2 d] for the kind `kl`. */
export function encodeImages(p: Parameters, config: SoftVqConfig, images: Value): Value {
  const sequence = encoderSequence(p, config, vitPatches(p, 'encoder.model.', config.encoder, images));
  return preQuantise(p, encoderLatents(p, config, sequence));
}

/** Patches [B, P, E] -> [prefix ; patches ; latents]. */
export function encoderSequence(p: Parameters, config: SoftVqConfig, patches: Value): Value {
  const { encoder, tokens } = config;
  const latents = add(p('encoder.latent_tokens'), p('encoder.latent_pos_embed'));
  const rows = broadcastTo(latents, [extent(patches, 0), tokens, encoder.width]);
  return concat([vitSequence(p, 'encoder.model.', encoder, patches), rows], 1);
}

/** The blocks and the norm over a sequence -> its last places, [B, L, E]. */
export function encoderLatents(p: Parameters, config: SoftVqConfig, sequence: Value): Value {
  const x = vitBlocks(p, 'encoder.model.', config.encoder, sequence, rotationOf(p, 'encoder', config));
  const end = prefixTokens(config.encoder) + patchesPerSide(config.encoder) ** 2;
  return slice(x, 1, end, end + config.tokens);
}

/** Rows of the encoder's width [B, L, E] -> latents before the quantiser. */
export const preQuantise = (p: Parameters, latents: Value): Value =>
  linear(latents, p('quant_conv.weight'), p('quant_conv.bias'));

/** Latents [B, L, d] -> images [B, 3, S, S], about [-1, 1]. */
export function decodeLatents(p: Parameters, config: SoftVqConfig, latents: Value): Value {
  const sequence = decoderSequence(p, config, postQuantise(p, latents));
  return toPixels(p, config, decodedPatches(p, config, sequence));
}

/** Latents [B, L, d] -> rows of the decoder's width [B, L, E']. */
export const postQuantise = (p: Parameters, latents: Value): Value =>
  linear(latents, p('post_quant_conv.weight'), p('post_quant_conv.bias'));

/** [B, L, E'] -> [prefix ; mask tokens ; latents]. */
export function decoderSequence(p: Parameters, config: SoftVqConfig, latents: Value): Value {
  const { decoder } = config;
  const masks = broadcastTo(p('decoder.mask_token'), [
    extent(latents, 0),
    decoderPatches(config),
    decoder.width,
  ]);
  const patches = vitSequence(p, 'decoder.model.', decoder, masks, { isPlaced: !config.isRotary });
  return concat([patches, add(latents, p('decoder.latent_pos_embed'))], 1);
}

/** The blocks and the norm over a sequence -> the places of the patches, [B, P, E']. */
export function decodedPatches(p: Parameters, config: SoftVqConfig, sequence: Value): Value {
  const x = vitBlocks(p, 'decoder.model.', config.decoder, sequence, rotationOf(p, 'decoder', config));
  return vitPatchPlaces(config.decoder, x);
}

/** [B, P, E'] -> [B, 3, S, S]; inside a patch the numbers stand by row, column and channel. */
export function toPixels(p: Parameters, config: SoftVqConfig, patches: Value): Value {
  const { patchSize, imageSize } = config.decoder;
  const side = patchesPerSide(config.decoder);
  const batch = extent(patches, 0);
  const numbers = linear(patches, p('decoder.to_pixel.model.weight'), p('decoder.to_pixel.model.bias'));
  const cells = reshape(numbers, [batch, side, side, patchSize, patchSize, 3]);
  return reshape(transpose(cells, [0, 5, 1, 3, 2, 4]), [batch, 3, imageSize, imageSize]);
}

function rotationOf(
  p: Parameters,
  side: 'encoder' | 'decoder',
  { isRotary, tokens, [side]: tower }: SoftVqConfig,
): LayerRotation | undefined {
  if (!isRotary) return undefined;
  return mixedRotation(tower, p(`${side}.freqs`), sequenceLength(tower) + tokens);
}

const sequenceLength = (tower: VitConfig): number => prefixTokens(tower) + patchesPerSide(tower) ** 2;

/**
 * The mixture of codes for each latent [B, L, d]: consecutive runs of L / nc latents have a codebook each, so similarities and
 * shares are [B, nc, L / nc, K].
 */
export function softQuantise(p: Parameters, config: SoftVqConfig, h: Value): CodeMixture {
  const { codebooks, tokens, latentDim } = config;
  const runs = reshape(h, [extent(h, 0), codebooks, tokens / codebooks, latentDim]);
  const mixture = mixtureOfCodes(runs, p('quantize.embedding'), config);
  return { ...mixture, latents: reshape(mixture.latents, h.shape) };
}

/** The nearest code of each latent [B, L, d]: i32 [B, L]. */
export function codesOf(p: Parameters, config: SoftVqConfig, h: Value): Value {
  return reshape(nearestCodes(h, p('quantize.embedding.weight'), config), h.shape.slice(0, -1));
}

/** The vectors of codes i32 [B, L]: [B, L, d]. */
export function latentsOfCodes(p: Parameters, config: SoftVqConfig, codes: Value): Value {
  return codeVectors(codes, p('quantize.embedding.weight'), config);
}

/** A normal distribution for each latent, from [mean ; logarithm of the variance], [B, L, 2 d]. */
export function posteriorOf(
  { latentDim }: SoftVqConfig,
  moments: Value,
): { readonly mean: Value; readonly logVariance: Value } {
  const [least, most] = [-30, 20];
  const raw = slice(moments, -1, latentDim, 2 * latentDim);
  const logVariance = maximum(neg(maximum(neg(raw), -most)), least);
  return { mean: slice(moments, -1, 0, latentDim), logVariance };
}

/** mean + deviation * noise, all [B, L, d]. */
export function drawnLatents(config: SoftVqConfig, moments: Value, noise: Value): Value {
  const { mean, logVariance } = posteriorOf(config, moments);
  return add(mean, mul(exp(mul(0.5, logVariance)), noise));
}
