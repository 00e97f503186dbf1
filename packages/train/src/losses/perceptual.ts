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
import {
  type ClassifierConfig,
  classifierDistance,
  classifierLevels,
  classifierParameters,
  lpips,
  lpipsParameters,
  networkWeights,
  vggLevels,
  vggParameters,
} from '@detailflow/features';

/** How much restored images must look like their targets to a network. Source: docs/method.md section 5. */
export interface PerceptualRecipe {
  /** `vgg`: LPIPS on VGG16, as published; `classifier`: features of a classifier of the images' own classes. */
  readonly network: 'vgg' | 'classifier';
  readonly weight: number;
  /** Steps over which the weight grows from 0. */
  readonly warmup: number;
}

/** The network of a perceptual loss. */
export interface PerceptualNetwork {
  /** Its feature maps, each half the size of the one before. */
  readonly levels: number;
  readonly weights: Weights;
  /** Images [B, 3, S, S] and others, and masks [1, 1, S, S], [1, 1, S/2, S/2], ... -> [B, 1, 1, 1]. */
  distance(g: GraphBuilder, x: Value, y: Value, masks: readonly Value[]): Value;
}

/** The weights of {@link lpipsNetwork}: torchvision's VGG16 and the heads of LPIPS. */
export const perceptualSpecs = (): readonly ParameterSpec[] => [...vggParameters(), ...lpipsParameters()];

/** LPIPS. The heads see all features: dropout before them is left out. */
export const lpipsNetwork = (vgg: Weights, heads: Weights): PerceptualNetwork => ({
  levels: vggLevels,
  weights: new Map([...vgg, ...heads]),
  distance: (g, x, y, masks) => lpips(networkWeights(g, perceptualSpecs()), x, y, masks),
});

const CLASSIFIER = 'perceptual.';

/** A classifier, such as `detailflow train classifier` makes. Its stages take images of any size. */
export function classifierNetwork(config: ClassifierConfig, weights: Weights): PerceptualNetwork {
  const specs = classifierParameters(config).filter(({ name }) => name.startsWith('stages.'));
  const own = specs.map(({ name, shape }) => ({ name: `${CLASSIFIER}${name}`, shape }));
  const found = specs.flatMap(({ name }) => {
    const weight = weights.get(name);
    return weight ? [[`${CLASSIFIER}${name}`, { ...weight, name: `${CLASSIFIER}${name}` }] as const] : [];
  });
  return {
    levels: classifierLevels,
    weights: new Map(found),
    distance(g, x, y, masks) {
      const parameter = networkWeights(g, own);
      return classifierDistance((name) => parameter(`${CLASSIFIER}${name}`), config, x, y, masks);
    },
  };
}

/**
 * Mean distance of images and their targets to a network, [1].
 * Feeds: perceptualWeight [1], perceptualMask0 [1, 1, S, S], perceptualMask1 [1, 1, S/2, S/2], ...
 */
export function perceptualLoss(
  g: GraphBuilder,
  network: PerceptualNetwork,
  pixels: Value,
  target: Value,
): Value {
  const [batch, , size] = pixels.shape as number[];
  const masks = Array.from({ length: network.levels }, (_, level) => {
    const side = size >> level;
    return g.input(`perceptualMask${level}`, 'f32', [1, 1, side, side]);
  });
  const distances = network.distance(g, pixels, target, masks); // [B, 1, 1, 1]
  const mean = mul(reshape(sum(distances, [0, 1, 2, 3]), [1]), 1 / batch);
  return mul(mean, g.input('perceptualWeight', 'f32', [1]));
}

/** Feeds for images of `size` pixels in the top left corner of a canvas. */
export function perceptualFeeds(
  { weight, warmup }: Pick<PerceptualRecipe, 'weight' | 'warmup'>,
  { step, canvas, size, levels }: { step: number; canvas: number; size: number; levels: number },
): Record<string, Tensor> {
  const factor = warmup > 0 ? Math.min(1, step / warmup) : 1;
  const feeds: Record<string, Tensor> = {
    perceptualWeight: new Tensor('float32', Float32Array.of(weight * factor), [1]),
  };
  for (let level = 0; level < levels; level++) {
    const [side, end] = [canvas >> level, size >> level];
    const mask = Float32Array.from({ length: side * side }, (_, i) =>
      i % side < end && Math.floor(i / side) < end ? 1 : 0,
    );
    feeds[`perceptualMask${level}`] = new Tensor('float32', mask, [1, 1, side, side]);
  }
  return feeds;
}
