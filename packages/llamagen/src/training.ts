import { type Parameters, type QuantisedForTraining, quantise } from '@detailflow/blocks';
import {
  add,
  checkOptions,
  div,
  extent,
  logSoftmax,
  maximum,
  mul,
  neg,
  reshape,
  slice,
  sum,
  takeAlong,
  type Value,
} from '@detailflow/core';
import { meanSquaredError } from '@detailflow/core/losses';
import type { TextGptConfig } from './text-config';
import { type TextForwardInputs, textForward } from './text-graphs';
import type { VqConfig } from './vq-config';
import { vqLatents, vqPixels } from './vq-graphs';

/** The losses of {@link vqLosses}. */
export interface VqLosses extends Omit<QuantisedForTraining, 'quantised'> {
  /** Mean squared error of the pixels, [1]. */
  readonly reconstruction: Value;
  /** The sum of all four, [1]. */
  readonly loss: Value;
  /** f32 [B, 3, H, W]. */
  readonly pixels: Value;
}

/**
 * A training step of the VQ tokenizer up to its losses, without the perceptual and the adversarial one.
 * Source: docs/family/llamagen.md section 1.
 * @param images f32 [B, 3, H, W] in [-1, 1], of known extents
 */
export function vqLosses(
  p: Parameters,
  config: VqConfig,
  images: Value,
  options: { readonly commitBeta?: number; readonly entropyRatio?: number } = {},
): VqLosses {
  checkOptions('vqLosses', options, { commitBeta: true, entropyRatio: true });
  const { isNormalised } = config;
  const [, , height] = images.shape as number[];
  const latents = vqLatents(p, config, images); // [B, n, d]
  const { quantised, ...losses } = quantise(latents, p('quantize.embedding.weight'), {
    ...options,
    isNormalised,
  });
  const rows = height / 2 ** (config.encoder.channels.length - 1);
  const columns = (extent(latents, 1) as number) / rows;
  const pixels = vqPixels(p, config, quantised, { rows, columns });
  const reconstruction = meanSquaredError(pixels, images);
  const loss = [reconstruction, losses.vq, losses.commit, losses.entropy].reduce(add);
  return { ...losses, reconstruction, loss, pixels };
}

/**
 * A training step of a text-conditional GPT up to its loss, [1]: the mean cross-entropy of the codes of rows that are valid.
 * Source: docs/family/llamagen.md section 2.
 * @param inputs.codes i32 [B, N]
 * @param inputs.valid f32 [B]: 0 for a row whose picture or text is missing; its text is zeros and its mask all true
 */
export function textGptLoss(
  p: Parameters,
  config: TextGptConfig,
  inputs: TextForwardInputs & { readonly valid: Value },
): { readonly loss: Value; readonly logits: Value } {
  const { codes, valid, features, mask } = inputs;
  const { tokens, textPlaces } = config;
  const batch = extent(codes, 0);
  const fed = slice(codes, 1, 0, tokens - 1);
  const all = textForward(p, config, { features, mask, codes: fed });
  const logits = slice(all, 1, textPlaces - 1, textPlaces - 1 + tokens); // [B, N, V]
  const picked = takeAlong(logSoftmax(logits), reshape(codes, [batch, tokens, 1]));
  const rows = reshape(sum(reshape(picked, [batch, tokens]), [-1]), [batch]);
  const count = maximum(mul(sum(valid, [0]), tokens), 1);
  return { loss: neg(div(sum(mul(rows, valid), [0]), count)), logits };
}
