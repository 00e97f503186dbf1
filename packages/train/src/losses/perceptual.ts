import { siglipVisionParameters, type VitConfig, vitParameters } from '@detailflow/blocks';
import {
  DetailFlowError,
  type GraphBuilder,
  mul,
  type ParameterSpec,
  philoxWords,
  reshape,
  select,
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
  SIGLIP,
  type SiglipConfig,
  siglipDistance,
  siglipSize,
  VIT,
  type VitFeatures,
  vggLevels,
  vggParameters,
  vggWidths,
  vitDistance,
  vitHeadParameters,
  vitNetworkSize,
} from '@detailflow/features';
import { Purpose } from '../purpose';
import { cornerView, viewed } from './corner-view';

/** How much restored images must look like their targets to a network. Source: docs/method.md section 5. */
export interface PerceptualRecipe {
  /**
   * `vgg`: LPIPS on VGG16, as published; `classifier`: features of a classifier of the images' own classes; `vit`: those of a vision
   * transformer, such as DINO's; `siglip`: those of SigLIP2.
   */
  readonly network: 'vgg' | 'classifier' | 'vit' | 'siglip';
  readonly weight: number;
  /** Steps over which the weight grows from 0. */
  readonly warmup: number;
  /** Whether the heads of LPIPS lose half of what they see, as in the official training; default false. */
  readonly dropout?: boolean;
  /** Of `vit` and `siglip`: which features are compared; default `layers`. */
  readonly features?: VitFeatures;
}

/** The network of a perceptual loss. */
export interface PerceptualNetwork {
  /** Its feature maps, each half the size of the one before; 0 where `side` says what it takes. */
  readonly levels: number;
  /** Side in pixels of the images that it takes: those of a step are brought to it, and there are no masks. */
  readonly side?: number;
  readonly weights: Weights;
  /** Images [B, 3, S, S] and others, and masks [1, 1, S, S], [1, 1, S/2, S/2], ... -> [B, 1, 1, 1]. */
  distance(
    g: GraphBuilder,
    x: Value,
    y: Value,
    masks: readonly Value[],
    dropout?: (difference: Value, level: number) => Value,
  ): Value;
  /** Channels of its feature maps, where they can be dropped. */
  readonly widths?: readonly number[];
}

/** The weights of {@link lpipsNetwork}: torchvision's VGG16 and the heads of LPIPS. */
export const perceptualSpecs = (): readonly ParameterSpec[] => [...vggParameters(), ...lpipsParameters()];

/** LPIPS. */
export const lpipsNetwork = (vgg: Weights, heads: Weights): PerceptualNetwork => ({
  levels: vggLevels,
  weights: new Map([...vgg, ...heads]),
  widths: vggWidths,
  distance: (g, x, y, masks, dropout) => lpips(networkWeights(g, perceptualSpecs()), x, y, masks, dropout),
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
 * A vision transformer, such as `readVit` of `@detailflow/eval` reads it.
 * @throws DetailFlowError `config` when its classes are to be compared, and it has no classifier
 */
export function vitNetwork(
  { config, weights }: { readonly config: VitConfig; readonly weights: Weights },
  features: VitFeatures = 'layers',
): PerceptualNetwork {
  const classes = weights.get(`${VIT}head.weight`)?.shape[0];
  const refuse = (message: string) =>
    new DetailFlowError('config', message, { entry: 'tokenizer.perceptual.features' });
  if (features === 'logits' && classes === undefined)
    throw refuse('is logits, and the network has no classifier (head.weight)');
  if ((features === 'logits' || features === 'class') && !config.hasClass)
    throw refuse(`is ${features}, and the network has no class token`);
  const head = features === 'logits' ? vitHeadParameters(config, classes as number) : [];
  const specs = [...vitParameters(VIT, config), ...head];
  const own = new Set(specs.map(({ name }) => name));
  return {
    ...{ levels: 0, side: vitNetworkSize(config) },
    weights: new Map([...weights].filter(([name]) => own.has(name))),
    distance: (g, x, y) => vitDistance(networkWeights(g, specs), config, x, y, features),
  };
}

/**
 * SigLIP2, such as `readSiglip` of `@detailflow/eval` reads it.
 * @throws DetailFlowError `config` for features that it does not have
 */
export function siglipNetwork(
  { config, weights }: { readonly config: SiglipConfig; readonly weights: Weights },
  features: VitFeatures = 'layers',
): PerceptualNetwork {
  if (features !== 'layers' && features !== 'last') {
    throw new DetailFlowError('config', `is ${features}; of siglip there are layers and last`, {
      entry: 'tokenizer.perceptual.features',
    });
  }
  const specs = siglipVisionParameters(SIGLIP, config);
  return {
    ...{ levels: 0, side: siglipSize(config), weights },
    distance: (g, x, y) => siglipDistance(networkWeights(g, specs), config, x, y, features),
  };
}

/**
 * Mean distance of images and their targets to a network, [1].
 * Feeds: perceptualWeight [1], perceptualMask0 [1, 1, S, S], perceptualMask1 [1, 1, S/2, S/2], ..., or perceptualView [side, S];
 * with dropout perceptualKeep0 bool [B, C, S, S], ...
 */
export function perceptualLoss(
  g: GraphBuilder,
  network: PerceptualNetwork,
  pixels: Value,
  target: Value,
  { dropout = false }: Pick<PerceptualRecipe, 'dropout'> = {},
): Value {
  const [batch, , size] = pixels.shape as number[];
  const masks = Array.from({ length: network.levels }, (_, level) => {
    const side = size >> level;
    return g.input(`perceptualMask${level}`, 'f32', [1, 1, side, side]);
  });
  const dropping = (difference: Value, level: number) => {
    const kept = g.input(`perceptualKeep${level}`, 'bool', difference.shape as number[]);
    return select(kept, mul(difference, 1 / (1 - DROPPED)), 0);
  };
  const view = network.side === undefined ? undefined : g.input(VIEW, 'f32', [network.side, size]);
  const seen = (image: Value) => (view ? viewed(image, view) : image);
  const distances = network.distance(g, seen(pixels), seen(target), masks, dropout ? dropping : undefined); // [B, 1, 1, 1]
  const mean = mul(reshape(sum(distances, [0, 1, 2, 3]), [1]), 1 / batch);
  return mul(mean, g.input('perceptualWeight', 'f32', [1]));
}

const VIEW = 'perceptualView';

/** Share that the heads of LPIPS lose: one bit a value decides. */
const DROPPED = 0.5;

/** What the heads keep of each feature map: perceptualKeep0 bool [B, C, S, S], ... */
export function perceptualDropoutFeeds(
  { widths = [] }: Pick<PerceptualNetwork, 'widths'>,
  at: { seed: number; step: number; place: number; images: number; canvas: number },
): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  for (const [level, channels] of widths.entries()) {
    const side = at.canvas >> level;
    const dims = [at.images, channels, side, side];
    const count = dims.reduce((a, b) => a * b, 1);
    const words = philoxWords({
      seed: at.seed + at.place * widths.length + level,
      position: at.step,
      stream: Purpose.perceptualDropout,
      count: Math.ceil(count / 32),
    });
    const keep = Uint8Array.from({ length: count }, (_, i) => (words[i >>> 5] >>> (i & 31)) & 1);
    feeds[`perceptualKeep${level}`] = new Tensor('bool', keep, dims);
  }
  return feeds;
}

/** Feeds for images of `size` pixels in the top left corner of a canvas. */
export function perceptualFeeds(
  { weight, warmup }: Pick<PerceptualRecipe, 'weight' | 'warmup'>,
  {
    step,
    canvas,
    size,
    levels,
    side,
  }: { step: number; canvas: number; size: number } & Pick<PerceptualNetwork, 'levels' | 'side'>,
): Record<string, Tensor> {
  const factor = warmup > 0 ? Math.min(1, step / warmup) : 1;
  const feeds: Record<string, Tensor> = {
    perceptualWeight: new Tensor('float32', Float32Array.of(weight * factor), [1]),
    ...(side !== undefined && { [VIEW]: cornerView(side, { canvas, size }) }),
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
