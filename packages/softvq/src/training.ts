import { mixtureEntropy, type Parameters, shareEntropy } from '@detailflow/blocks';
import {
  add,
  DetailFlowError,
  exp,
  l2Normalise,
  matmul,
  mul,
  reshape,
  stopGradient,
  straightThrough,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import { meanOfAll } from '@detailflow/core/losses';
import type { SoftVqConfig } from './config';
import {
  codesOf,
  decodeLatents,
  drawnLatents,
  encodeImages,
  latentsOfCodes,
  posteriorOf,
  softQuantise,
} from './model';

/** Factors of the quantiser's losses. */
export interface LatentLossOptions {
  /** `commit_loss_beta`; default 0.25. `vq`. */
  readonly commitBeta?: number;
  /** `entropy_loss_ratio`; default 0, which leaves the term out of the graph. `soft` and `vq`. */
  readonly entropyRatio?: number;
  /** `kl_loss_weight`; default 1e-6. `kl`. */
  readonly klWeight?: number;
}

/** A training step up to the losses of the quantiser. */
export interface LatentTrainingOutputs {
  /** [B, 3, S, S]. */
  readonly pixels: Value;
  /** What is decoded, [B, L, d]; the alignment loss is on these. */
  readonly latents: Value;
  /**
   * The losses as the official tuple orders them, each [1]: squared distance to codes (`vq`) or divergence (`kl`), commitment
   * (`vq`), entropy (`soft`, `vq`); 0 where there is none.
   */
  readonly losses: readonly [Value, Value, Value];
}

/** Temperature of the entropy term's assignment to codes. */
const ENTROPY_TEMPERATURE = 0.01;
/** Added inside the logarithm of the mean assignment. */
const VQ_ENTROPY_EPSILON = 1e-5;
const NORM_EPSILON = 1e-12;

/**
 * The forward pass of a training step, in shapes that are all known. Source: docs/family/softvq.md sections 3 and 4.
 * @param images [B, 3, S, S] in [-1, 1]
 * @param options.noise normal noise [B, L, d]; must be given for the kind `kl`
 */
export function latentTraining(
  p: Parameters,
  config: SoftVqConfig,
  images: Value,
  options: LatentLossOptions & { readonly noise?: Value } = {},
): LatentTrainingOutputs {
  const h = encodeImages(p, config, images);
  const { latents, losses } = quantised(p, config, h, options);
  return { pixels: decodeLatents(p, config, latents), latents, losses };
}

type Quantised = Pick<LatentTrainingOutputs, 'latents' | 'losses'>;

function quantised(
  p: Parameters,
  config: SoftVqConfig,
  h: Value,
  options: LatentLossOptions & { readonly noise?: Value },
): Quantised {
  const none = h.graph.constant(Float64Array.of(0), [1]);
  if (config.kind === 'ae') return { latents: h, losses: [none, none, none] };
  if (config.kind === 'soft') return softLosses(p, config, h, none, options);
  if (config.kind === 'vq') return vqLosses(p, config, h, none, options);
  const { noise, klWeight = 1e-6 } = options;
  if (!noise) throw new DetailFlowError('invalid-argument', 'training of the kind "kl" needs noise');
  const divergence = mul(klWeight, meanOfAll(klDivergence(config, h)));
  return { latents: drawnLatents(config, h, noise), losses: [divergence, none, none] };
}

/** Divergence from the standard normal distribution, of each image: [B, L, 2 d] -> [B, 1, 1]. */
export function klDivergence(config: SoftVqConfig, moments: Value): Value {
  const { mean, logVariance } = posteriorOf(config, moments);
  const terms = sub(add(mul(mean, mean), exp(logVariance)), add(logVariance, 1));
  return mul(0.5, sum(terms, [1, 2]));
}

function softLosses(
  p: Parameters,
  config: SoftVqConfig,
  h: Value,
  none: Value,
  { entropyRatio = 0 }: LatentLossOptions,
): Quantised {
  const { latents, similarities } = softQuantise(p, config, h);
  if (entropyRatio === 0) return { latents, losses: [none, none, none] };
  const rows = rowsOf(similarities, config.codebookSize);
  const entropy = mixtureEntropy(rows);
  return { latents, losses: [none, none, mul(entropyRatio, entropy)] };
}

function vqLosses(
  p: Parameters,
  config: SoftVqConfig,
  h: Value,
  none: Value,
  { commitBeta = 0.25, entropyRatio = 0 }: LatentLossOptions,
): Quantised {
  const normal = (x: Value) => (config.isNormalised ? l2Normalise(x, NORM_EPSILON) : x);
  const unit = normal(h);
  const entries = latentsOfCodes(p, config, codesOf(p, config, h));
  const distance = (x: Value, y: Value) => {
    const difference = sub(x, y);
    return meanOfAll(mul(difference, difference));
  };
  const vq = distance(stopGradient(unit), entries);
  const commit = mul(commitBeta, distance(unit, stopGradient(entries)));
  const latents = straightThrough(entries, unit);
  if (entropyRatio === 0) return { latents, losses: [vq, commit, none] };
  const codes = normal(p('quantize.embedding.weight'));
  const rows = rowsOf(unit, config.latentDim);
  const lengths = add(
    sum(mul(rows, rows), [-1]),
    reshape(sum(mul(codes, codes), [-1]), [1, config.codebookSize]),
  );
  const distances = sub(lengths, mul(2, matmul(rows, codes, { transposeB: true })));
  const entropy = shareEntropy(mul(distances, -1 / ENTROPY_TEMPERATURE), VQ_ENTROPY_EPSILON);
  return { latents, losses: [vq, commit, mul(entropyRatio, entropy)] };
}

function rowsOf(x: Value, width: number): Value {
  const count = x.shape.slice(0, -1).reduce<number>((size, dim) => size * (dim as number), 1);
  return reshape(x, [count, width]);
}
