import {
  concat,
  type GraphBuilder,
  l2Normalise,
  mul,
  type ParameterSpec,
  reshape,
  sum,
  Tensor,
  type Tensors,
  type Value,
} from '@detailflow/core';
import { featureProjection, featureProjectionSpecs } from './feature-projection';

/** The decoder's patches learn to tell the features that another network sees there (REPA). */
export interface RepaRecipe {
  readonly weight: number;
  /** Layer of the decoder, from 0, after which its patches are taken (`repa_layer_indices`). */
  readonly layer: number;
  /** Hidden width of the projection (`repa_proj_dim`). */
  readonly width: number;
}

/** A network that sees features at the patches of images. */
export interface PatchFeatures {
  /** Length of the features, F. */
  readonly width: number;
  /** Side of its patches in pixels. */
  readonly patchSize: number;
  /** Images float32 [B, 3, S, S] in [-1, 1] -> float32 [B, (S / p)^2, F]. */
  features(images: Tensor): Promise<Tensor>;
}

const NAME = 'projection';
/** Smallest norm. */
const SMALLEST = 1e-12;

/** Names and shapes of the projection, as official checkpoints have them. */
export function repaSpecs(decoderWidth: number, hidden: number, features: number): ParameterSpec[] {
  return featureProjectionSpecs(NAME, { from: decoderWidth, hidden, to: features });
}

/**
 * Minus the mean cosine between what the decoder's patches tell and the features of what it should draw, [1].
 * @param hidden [B or 2 B, P, E']; with self-correction the clean and the corrected half both count
 * Feeds: repaTarget [B, P, F] and repaWeights [P, 1], which sum to 1: see {@link repaFeeds}.
 * Source: docs/options.md.
 */
export function repaLoss(
  g: GraphBuilder,
  p: (name: string) => Value,
  hidden: Value,
  { batch, width, weight }: { batch: number; width: number; weight: number },
): Value {
  const [images, patches] = hidden.shape as number[];
  const one = g.input('repaTarget', 'f32', [batch, patches, width]);
  const target = images === batch ? one : concat([one, one], 0);
  const told = featureProjection(p, NAME, hidden);
  const cosines = sum(mul(l2Normalise(told, SMALLEST), l2Normalise(target, SMALLEST)), [-1]); // [B, P, 1]
  const weighted = mul(cosines, g.input('repaWeights', 'f32', [patches, 1]));
  return mul(reshape(sum(weighted, [0, 1, 2]), [1]), -weight / images);
}

/** Feeds for features [B, s^2, F] of images of s x s patches in the top left corner of `side` x `side` patches. */
export function repaFeeds({ data, dims }: Tensor, side: number): Tensors {
  const [batch, patches, width] = dims;
  const inner = Math.sqrt(patches);
  const target = new Float32Array(batch * side * side * width);
  const weights = new Float32Array(side * side);
  for (let at = 0; at < batch * patches; at++) {
    const [image, place] = [Math.floor(at / patches), at % patches];
    const spot = Math.floor(place / inner) * side + (place % inner);
    weights[spot] = 1 / patches;
    const row = (data as Float32Array).subarray(at * width, (at + 1) * width);
    target.set(row, (image * side * side + spot) * width);
  }
  return {
    repaTarget: new Tensor('float32', target, [batch, side * side, width]),
    repaWeights: new Tensor('float32', weights, [side * side, 1]),
  };
}
