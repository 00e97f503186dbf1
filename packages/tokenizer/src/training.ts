import { assignmentEntropy, mixtureEntropy, mixtureOfCodes } from '@detailflow/blocks';
import {
  add,
  concat,
  div,
  extent,
  l2Normalise,
  mul,
  reshape,
  select,
  slice,
  stopGradient,
  straightThrough,
  sub,
  sum,
  takeAlong,
  topK,
  type Value,
} from '@detailflow/core';
import { meanOfAll } from '@detailflow/core/losses';
import type { TokenizerConfig } from './config';
import {
  codebookEntries,
  decoderTower,
  embedPatches,
  encoderTower,
  initialLatents,
  isNormalised,
  NORM_EPSILON,
  nearestCodes,
  type Parameters,
  placedEmbedding,
  preQuantise,
  refinedLatents,
  toPixels,
} from './model';

/** Factors of the quantiser's losses. */
export interface QuantiserLossOptions {
  /** `vq_loss_ratio`; default 1. */
  readonly vqRatio?: number;
  /** `commit_loss_beta`; default 0.25. */
  readonly commitBeta?: number;
  /** `entropy_loss_ratio`; default 0, which leaves the term out of the graph. */
  readonly entropyRatio?: number;
}

/** What else is taken out of a training step. */
export interface TrainingForwardOptions extends QuantiserLossOptions {
  /** Number of the decoder's layer, from 0, after which its patches are an output. */
  readonly hiddenLayer?: number;
}

/** What a training step is fed with, all of concrete shape. Prefix lengths enter as masks. */
export interface TrainingInputs {
  /** [B, 3, S, S] in [-1, 1]. */
  readonly images: Value;
  /** [S / p, 16] for the encoder. */
  readonly encoderResize: Value;
  /** [(S / p')^2, 16 * 16], where the patches of the decoded image lie, see `placementMatrix`. */
  readonly decoderPlaces: Value;
  /** i32 [n]: 0..n-1. */
  readonly positions: Value;
  /** bool [L, L] over [patches ; latents] of the encoder; all see all if omitted. */
  readonly encoderVisible?: Value;
  /** bool [L', L'] over [patches ; latents] of the decoder: hides the latents from t on, and patches of no use. */
  readonly decoderVisible?: Value;
  /** Present in a self-correction step. */
  readonly correction?: CorrectionInputs;
}

/** What a self-correction step is fed with. Source: docs/method.md section 3. */
export interface CorrectionInputs {
  /** i32 [B, n]: which of the nearest codes becomes the wrong one. */
  readonly ranks: Value;
  /** bool [n]: tokens before the first wrong one, i < k. */
  readonly isClean: Value;
  /** bool [n]: tokens up to the last wrong one, i < e. */
  readonly isPrefix: Value;
}

/** A training step up to its losses. */
export interface TrainingOutputs {
  /** [B, 3, S, S]; with self-correction [2 B, 3, S, S], clean and then corrected. */
  readonly pixels: Value;
  /** Codebook entries of the first pass, [B, n, d]; gradients pass through to the latents. */
  readonly quantised: Value;
  /** Losses of the quantiser, each [1]. */
  readonly vq: Value;
  readonly commit: Value;
  readonly entropy: Value;
  /** Unit vectors of the latents of the first pass, [B, n, d]. */
  readonly unit: Value;
  /** i32 [B, n]: codes of the first pass, and with self-correction those of the second. */
  readonly codes: Value;
  readonly fresh?: Value;
  /** i32 [B, n]: the codes that the second pass was given; valid before e. */
  readonly prefix?: Value;
  /** The decoder's patches after the layer that was asked for, before its last norm: [B or 2 B, P, E']. */
  readonly hidden?: Value;
}

/**
 * The forward pass of a training step: encode, quantise, decode, in a self-correction step twice.
 * Source: docs/method.md sections 3 and 5.
 */
export function trainingForward(
  p: Parameters,
  config: TokenizerConfig,
  inputs: TrainingInputs,
  options: TrainingForwardOptions = {},
): TrainingOutputs {
  const { images, positions, correction } = inputs;
  const patches = embedPatches(p, config, images, inputs.encoderResize);
  const encode = (latents: Value) =>
    preQuantise(
      p,
      encoderTower(p, config, { patches, latents, positions, visible: inputs.encoderVisible }).latents,
    );
  let hidden: Value | undefined;
  const onLayer = (layer: number, patches: Value) => {
    if (layer === options.hiddenLayer) hidden = patches;
  };
  const decode = (quantised: Value) => {
    const { decoderPlaces: places, decoderVisible: visible } = inputs;
    const embedding = placedEmbedding(p, 'decoder.visual_model', places);
    const out = decoderTower(p, config, { quantised, positions, embedding, visible, onLayer });
    return toPixels(p, config, out, Math.sqrt(extent(places, 0) as number));
  };

  const h = encode(initialLatents(p, positions));
  if (config.mixture) {
    const found = mixture(p, config.mixture, h, options);
    const pixels = decode(found.quantised);
    return { ...found, pixels, ...(hidden && { hidden }) };
  }
  const first = quantise(p, config, h);
  if (!correction) {
    const losses = quantiserLosses(p, config, first, undefined, options);
    const { quantised, unit, codes } = first;
    const pixels = decode(quantised);
    return { pixels, quantised, unit, codes, ...losses, ...(hidden && { hidden }) };
  }
  const { ranks, isClean, isPrefix } = correction;
  const tokens = extent(positions, 0);
  const [batch] = ranks.shape;
  const wrong = reshape(takeAlong(first.nearest, reshape(ranks, [batch, tokens, 1])), [batch, tokens]);
  const prefix = select(isClean, first.codes, wrong); // i32 [B, n]
  const second = quantise(p, config, encode(refinedLatents(p, positions, prefix, isPrefix, config)));
  const given = stopGradient(codebookEntries(p, prefix, config));
  const corrected = select(reshape(isPrefix, [tokens, 1]), given, second.quantised);

  // The passes count by their number of tokens: n of the first, n - e of the second.
  const isFresh = select(isPrefix, 0, 1);
  const count = sum(isFresh, [0]); // n - e
  const total = add(count, tokens as number);
  const a = quantiserLosses(p, config, first, undefined, options);
  const b = quantiserLosses(p, config, second, isFresh, options);
  const weigh = (x: Value, y: Value) => div(add(mul(x, tokens as number), mul(y, count)), total);
  const pixels = decode(concat([first.quantised, corrected], 0));
  return {
    pixels,
    ...(hidden && { hidden }),
    quantised: first.quantised,
    vq: weigh(a.vq, b.vq),
    commit: weigh(a.commit, b.commit),
    entropy: weigh(a.entropy, b.entropy),
    unit: first.unit,
    codes: first.codes,
    fresh: second.codes,
    prefix,
  };
}

/** Mixtures of codes and their losses: only the entropy term is one. */
function mixture(
  p: Parameters,
  { temperature }: { readonly temperature: number },
  h: Value,
  { entropyRatio = 0 }: QuantiserLossOptions,
): Omit<TrainingOutputs, 'pixels'> {
  const none = h.graph.constant(Float64Array.of(0), [1]);
  const [batch, tokens] = h.shape as number[];
  const codebook = p('quantize.embedding.weight');
  const { similarities, latents } = mixtureOfCodes(h, codebook, { temperature });
  const rows = reshape(similarities, [batch * tokens, extent(codebook, 0) as number]);
  return {
    ...{ quantised: latents, vq: none, commit: none, unit: l2Normalise(h, NORM_EPSILON) },
    entropy: entropyRatio === 0 ? none : mul(entropyRatio, mixtureEntropy(rows)),
    codes: reshape(slice(topK(similarities, 1), -1, 0, 1), [batch, tokens]),
  };
}

interface Quantised {
  /** Latents as they are compared with codes: unit vectors unless the codebook is not normalised, [B, n, d]. */
  readonly unit: Value;
  /** i32 [B, n, up to 50]. */
  readonly nearest: Value;
  /** i32 [B, n]. */
  readonly codes: Value;
  /** Unit vectors of the nearest codes, with the gradient to the codebook: [B, n, d]. */
  readonly entries: Value;
  /** The same with the gradient straight through to `unit`. */
  readonly quantised: Value;
}

function quantise(p: Parameters, config: TokenizerConfig, h: Value): Quantised {
  const unit = isNormalised(config) ? l2Normalise(h, NORM_EPSILON) : h;
  const nearest = nearestCodes(p, config, h);
  const codes = reshape(slice(nearest, -1, 0, 1), h.shape.slice(0, -1));
  const entries = codebookEntries(p, codes, config);
  return { unit, nearest, codes, entries, quantised: straightThrough(entries, unit) };
}

/** vq, commit and entropy losses of one pass; `weights` [n] says which tokens count for vq and commit. */
function quantiserLosses(
  p: Parameters,
  config: TokenizerConfig,
  { unit, entries }: Quantised,
  weights: Value | undefined,
  { vqRatio = 1, commitBeta = 0.25, entropyRatio = 0 }: QuantiserLossOptions,
): { vq: Value; commit: Value; entropy: Value } {
  const average = (x: Value) => (weights ? weightedMean(x, weights) : meanOfAll(x));
  const distance = (x: Value, y: Value) => {
    const difference = sub(x, y);
    return average(mul(difference, difference));
  };
  const entropy =
    entropyRatio === 0
      ? unit.graph.constant(Float64Array.of(0), [1])
      : mul(entropyRatio, assignmentEntropy(unit, wholeCodebook(p, config)));
  return {
    vq: mul(vqRatio, distance(stopGradient(unit), entries)),
    commit: mul(commitBeta, distance(unit, stopGradient(entries))),
    entropy,
  };
}

/** All codes as they are compared, [K, d]. */
function wholeCodebook(p: Parameters, config: TokenizerConfig): Value {
  const codes = p('quantize.embedding.weight');
  return isNormalised(config) ? l2Normalise(codes, NORM_EPSILON) : codes;
}

/** Mean over B, the tokens that `weights` [n] counts, and d: x [B, n, d] -> [1]. */
function weightedMean(x: Value, weights: Value): Value {
  const [batch, tokens, width] = x.shape;
  const counted = sum(mul(x, reshape(weights, [tokens, 1])), [0, 1, 2]);
  const size = mul(sum(weights, [0]), (batch as number) * (width as number));
  return div(reshape(counted, [1]), size);
}
