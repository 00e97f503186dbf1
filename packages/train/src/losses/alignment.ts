import {
  type GraphBuilder,
  l2Normalise,
  mul,
  type ParameterSpec,
  reshape,
  slice,
  sum,
  type Tensor,
  type Value,
} from '@detailflow/core';
import { featureProjection, featureProjectionSpecs } from './feature-projection';

/** The first token learns what a picture is about: it must tell the features of another network. */
export interface AlignmentRecipe {
  readonly weight: number;
}

/** Gives the features that the first token must tell; any network will do. */
export interface AlignmentTarget {
  /** Length of the features, F. */
  readonly width: number;
  /** Images float32 [B, 3, S, S] in [-1, 1] -> float32 [B, F]. */
  features(images: Tensor): Promise<Tensor>;
}

const NAME = 'global_token_proj';
const HIDDEN = 1024;
/** Smallest norm, as torch has it. */
const SMALLEST = 1e-8;

/** Names and shapes of the MLP from a token of `codebookDim` numbers to `width` features, as official checkpoints have them. */
export function alignmentSpecs(codebookDim: number, width: number): ParameterSpec[] {
  return featureProjectionSpecs(NAME, { from: codebookDim, hidden: HIDDEN, to: width });
}

/**
 * Minus the mean cosine between what the first token tells and the features, [1].
 * @param p parameters, {@link alignmentSpecs} among them
 * @param quantised [B, n, d], of the first pass
 * Feed: alignmentTarget [B, F].
 * Source: docs/method.md section 5.
 */
export function alignmentLoss(
  g: GraphBuilder,
  p: (name: string) => Value,
  quantised: Value,
  { width, weight }: { width: number; weight: number },
): Value {
  const [batch, , dim] = quantised.shape as number[];
  const first = reshape(slice(quantised, 1, 0, 1), [batch, dim]);
  const told = featureProjection(p, NAME, first); // [B, F]
  const target = g.input('alignmentTarget', 'f32', [batch, width]);
  const cosines = mul(l2Normalise(told, SMALLEST), l2Normalise(target, SMALLEST));
  return mul(reshape(sum(cosines, [0, 1]), [1]), -weight / batch);
}
