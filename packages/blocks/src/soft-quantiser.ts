import {
  add,
  extent,
  l2Normalise,
  log,
  logSoftmax,
  matmul,
  mul,
  neg,
  reshape,
  softmax,
  stopGradient,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import { NORM_EPSILON } from './vector-quantiser';

/** A soft quantiser at work on vectors. */
export interface CodeMixture {
  /** Cosines of vectors and codes (plain products where nothing is normalised), [..., n, K]. */
  readonly similarities: Value;
  /** Shares of the codes in each vector, [..., n, K]. */
  readonly shares: Value;
  /** The mixtures, [..., n, d]. */
  readonly latents: Value;
}

/**
 * The mixture of codes [..., K, d] for each vector [..., n, d]: softmax of their similarity over `temperature`. Codes get their
 * gradient through the mixture only, vectors through the softmax. Source: docs/family/softvq.md section 3.
 */
export function mixtureOfCodes(
  vectors: Value,
  codebook: Value,
  { temperature, isNormalised = true }: { readonly temperature: number; readonly isNormalised?: boolean },
): CodeMixture {
  const normal = (x: Value) => (isNormalised ? l2Normalise(x, NORM_EPSILON) : x);
  const codes = normal(codebook);
  const similarities = matmul(normal(vectors), stopGradient(codes), { transposeB: true });
  const shares = softmax(mul(similarities, 1 / temperature));
  return { similarities, shares, latents: matmul(shares, codes) };
}

/** Temperature of the entropy term's assignment to codes. */
const ENTROPY_TEMPERATURE = 0.01;

/**
 * Mean entropy of the assignments softmax(similarities / 0.01), [rows, K], minus the entropy of their mean: [1]. Low where every
 * vector is sure and all codes are used.
 */
export const mixtureEntropy = (similarities: Value): Value =>
  shareEntropy(mul(similarities, 1 / ENTROPY_TEMPERATURE), 1e-6);

/** The same of any logits [rows, K]. @param epsilon added inside the logarithm of the mean assignment */
export function shareEntropy(logits: Value, epsilon: number): Value {
  const count = extent(logits, 0) as number;
  const shares = softmax(logits);
  const sure = mul(sum(mul(shares, logSoftmax(logits)), [0, 1]), -1 / count); // [1, 1]
  const mean = mul(sum(shares, [0]), 1 / count); // [1, K]
  const used = neg(sum(mul(mean, log(add(mean, epsilon))), [1])); // [1, 1]
  return reshape(sub(sure, used), [1]);
}
