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
  straightThrough,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import { meanSquaredError } from '@detailflow/core/losses';
import { type CodebookOptions, codeVectors, NORM_EPSILON, nearestCodes } from './vector-quantiser';

/** Factors of a quantiser's losses. */
export interface QuantiserLossOptions extends CodebookOptions {
  /** Of what pulls latents to their codes; default 0.25. */
  readonly commitBeta?: number;
  /** Of the entropy term; default 0, which leaves it out of the graph. */
  readonly entropyRatio?: number;
}

/** Latents after the quantiser in training, and its losses. */
export interface QuantisedForTraining {
  /** i32 [B, n]. */
  readonly codes: Value;
  /** The vectors of the codes [B, n, d], with the gradient straight through to the latents. */
  readonly quantised: Value;
  /** What codes were chosen for, [B, n, d]: unit vectors where they are compared as such. */
  readonly vectors: Value;
  /** Losses, each [1]. */
  readonly vq: Value;
  readonly commit: Value;
  readonly entropy: Value;
}

/** Quantises latents [B, n, d], of known extents, in a training step. Source: docs/family/llamagen.md section 1. */
export function quantise(
  latents: Value,
  codebook: Value,
  { isNormalised = true, commitBeta = 0.25, entropyRatio = 0 }: QuantiserLossOptions = {},
): QuantisedForTraining {
  const normal = (x: Value) => (isNormalised ? l2Normalise(x, NORM_EPSILON) : x);
  const unit = normal(latents);
  const nearest = nearestCodes(stopGradient(latents), stopGradient(codebook), { isNormalised });
  const codes = reshape(nearest, latents.shape.slice(0, 2));
  const entries = codeVectors(codes, codebook, { isNormalised });
  return {
    codes,
    quantised: straightThrough(entries, unit),
    vectors: unit,
    vq: meanSquaredError(stopGradient(unit), entries),
    commit: mul(commitBeta, meanSquaredError(unit, stopGradient(entries))),
    entropy:
      entropyRatio === 0
        ? latents.graph.constant(Float64Array.of(0), [1])
        : mul(entropyRatio, assignmentEntropy(unit, normal(codebook))),
  };
}

/** Temperature of the soft assignment to codes. */
const ENTROPY_TEMPERATURE = 0.01;

/**
 * Mean entropy of the soft assignments of vectors [B, n, d] to codes [K, d] minus the entropy of the mean assignment: low when
 * every vector is sure of its code and all codes are used. Result [1].
 */
export function assignmentEntropy(vectors: Value, codes: Value): Value {
  const [batch, tokens, width] = vectors.shape as number[];
  const codebook = extent(codes, 0);
  const rows = reshape(vectors, [batch * tokens, width]);
  const distance = sub(
    add(sum(mul(rows, rows), [-1]), reshape(sum(mul(codes, codes), [-1]), [1, codebook])),
    mul(2, matmul(rows, codes, { transposeB: true })),
  ); // [B n, K]
  const affinity = mul(distance, -1 / ENTROPY_TEMPERATURE);
  const probabilities = softmax(affinity);
  const sure = neg(mul(sum(mul(probabilities, logSoftmax(affinity)), [0, 1]), 1 / (batch * tokens))); // [1, 1]
  const mean = mul(sum(probabilities, [0]), 1 / (batch * tokens)); // [1, K]
  const used = neg(sum(mul(mean, log(add(mean, 1e-5))), [1])); // [1, 1]
  return reshape(sub(sure, used), [1]);
}
