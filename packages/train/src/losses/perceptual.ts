import {
  type GraphBuilder,
  mul,
  type ParameterSpec,
  reshape,
  sum,
  Tensor,
  type Value,
  type Weights,
} from '@detailflow/core';
import { lpips, lpipsParameters, networkWeights, vggLevels, vggParameters } from '@detailflow/features';

/** How much restored images must look like their targets to VGG16. Source: docs/method.md section 5. */
export interface PerceptualRecipe {
  readonly weight: number;
  /** Steps over which the weight grows from 0. */
  readonly warmup: number;
}

/** The weights that {@link perceptualLoss} needs: torchvision's VGG16 and the heads of LPIPS. */
export const perceptualSpecs = (): readonly ParameterSpec[] => [...vggParameters(), ...lpipsParameters()];

/** The weights of both files as those of one network. */
export const perceptualWeights = (vgg: Weights, heads: Weights): Weights => new Map([...vgg, ...heads]);

/**
 * Mean LPIPS of images and their targets, [1]. The heads see all features: dropout before them is left out.
 * Feeds: perceptualWeight [1], perceptualMask0 [1, 1, S, S], perceptualMask1 [1, 1, S/2, S/2], ...
 */
export function perceptualLoss(g: GraphBuilder, pixels: Value, target: Value): Value {
  const [batch, , size] = pixels.shape as number[];
  const masks = Array.from({ length: vggLevels }, (_, level) => {
    const side = size >> level;
    return g.input(`perceptualMask${level}`, 'f32', [1, 1, side, side]);
  });
  const distances = lpips(networkWeights(g, perceptualSpecs()), pixels, target, masks); // [B, 1, 1, 1]
  const mean = mul(reshape(sum(distances, [0, 1, 2, 3]), [1]), 1 / batch);
  return mul(mean, g.input('perceptualWeight', 'f32', [1]));
}

/** Feeds for images of `size` pixels in the top left corner of a canvas. */
export function perceptualFeeds(
  { weight, warmup }: PerceptualRecipe,
  { step, canvas, size }: { step: number; canvas: number; size: number },
): Record<string, Tensor> {
  const factor = warmup > 0 ? Math.min(1, step / warmup) : 1;
  const feeds: Record<string, Tensor> = {
    perceptualWeight: new Tensor('float32', Float32Array.of(weight * factor), [1]),
  };
  for (let level = 0; level < vggLevels; level++) {
    const [side, end] = [canvas >> level, size >> level];
    const mask = Float32Array.from({ length: side * side }, (_, i) =>
      i % side < end && Math.floor(i / side) < end ? 1 : 0,
    );
    feeds[`perceptualMask${level}`] = new Tensor('float32', mask, [1, 1, side, side]);
  }
  return feeds;
}
