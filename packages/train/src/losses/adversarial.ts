import {
  add,
  checkOptions,
  concat,
  DetailFlowError,
  div,
  exp,
  type Graph,
  type GraphBuilder,
  less,
  log,
  maximum,
  mul,
  neg,
  reshape,
  select,
  slice,
  sqrt,
  stopGradient,
  sub,
  sum,
  trace,
  type Value,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { accumulateGradients } from '../optimiser';
import { augment, augmentationInputs } from './augmentation';
import { viewed } from './corner-view';
import {
  type Discriminator,
  discriminatorSpecs,
  discriminatorWeights,
  readDiscriminator,
} from './discriminator';

/** The game against a discriminator. Source: docs/method.md section 5. */
export interface AdversarialRecipe {
  /** Steps before it begins. */
  readonly start: number;
  /** Factor of the generator's term, and of the discriminator's. */
  readonly weight: number;
  /** Bring the generator's term to the size of the others, by their gradients in the last layer (VQGAN). */
  readonly adaptive: boolean;
  /** Factor of LeCAM inside the discriminator's term. */
  readonly lecam: number;
  /** Factor of the squared difference of judgements under weak and strong augmentation. */
  readonly consistency: number;
  /** Whether images are changed at random before they are judged (`use_diff_aug`); default true. */
  readonly augment?: boolean;
  /** What the discriminator is taught: `hinge` (default), or `vanilla` or `non-saturating`, both the cross-entropy of real and restored. */
  readonly loss?: 'hinge' | 'vanilla' | 'non-saturating';
  /** What the tokenizer is taught: `hinge` (default), or `non-saturating`, the cross-entropy of being taken for real. */
  readonly generatorLoss?: 'hinge' | 'non-saturating';
}

/** Share of the running means of the judgements that stays. */
export const LECAM_DECAY = 0.999;

/** How the judged images are fed, beside {@link augmentationInputs}: judged [1, 1, h, w], the weights of the judgements. */
export const JUDGED = 'judged';
/** The feed [side, S] that brings images to the side that a discriminator takes. */
export const JUDGED_VIEW = 'judgedView';

/** Loss and gradient of the generator in its own graph, [1]. The discriminator stays as it is. */
export function generatorLoss(
  g: GraphBuilder,
  model: Discriminator,
  images: { readonly pixels: Value; readonly pixelWeights: Value },
  kind: AdversarialRecipe['generatorLoss'] = 'hinge',
): Value {
  const { pixels, pixelWeights } = images;
  const [batch, , size] = pixels.shape as number[];
  const changes = augmentationInputs(g, 'weak', batch, size);
  const changed = augment(pixels, pixelWeights, insideOf(pixelWeights), changes);
  const seen = broughtTo(g, model, changed);
  const logits = model.logits(discriminatorWeights(g, model), seen);
  const judged = judgedInput(g, logits);
  return kind === 'hinge'
    ? mul(weightedMean(logits, judged), -1)
    : weightedMean(softplus(neg(logits)), judged);
}

/** By what the generator's term is multiplied to weigh as much as the others in the last layer: [1], no gradient. */
export function adaptiveWeight(others: Value, adversarial: Value, lastLayer: Value): Value {
  const norm = (loss: Value) => {
    const [gradient] = gradients(loss, [lastLayer]);
    if (!gradient) return undefined;
    const flat = reshape(gradient, [(gradient.shape as number[]).reduce((a, b) => a * b, 1)]);
    return sqrt(sum(mul(flat, flat), [0]));
  };
  const [a, b] = [norm(others), norm(adversarial)];
  if (!a || !b) throw new Error('the last layer is not part of the losses');
  const ratio = div(a, add(b, 1e-4));
  return stopGradient(select(less(ratio, 1e4), ratio, 1e4));
}

/** What the graph of a discriminator's step is made of. */
export interface DiscriminatorGraphOptions {
  readonly model: Discriminator;
  readonly recipe: AdversarialRecipe;
  /** Restored images of one run, B. */
  readonly images: number;
  /** Side in pixels. */
  readonly size: number;
}

/**
 * Loss and gradients of the discriminator, added to its gradient buffers.
 * Feeds: real and fake [B, 3, S, S], pixelWeights [1, 1, S, S], judged [1, 1, h, w]; the changes weak and strong of
 * [real; fake]; emaReal and emaFake [1], running means of the judgements before this step.
 * Of some discriminators also judgedView [side, S] and the singular vectors of weights, `singular.NAME` [O].
 * Outputs: loss, judgedReal and judgedFake (mean judgements), each [1]; `next.NAME` [O], singular vectors after the step.
 */
export function discriminatorStepGraph(options: DiscriminatorGraphOptions): Graph {
  checkOptions('discriminatorStepGraph', options, { model: true, recipe: true, images: true, size: true });
  const { model, recipe, images, size } = options;
  const specs = discriminatorSpecs(model);
  return trace((g) => {
    const { weight: p, learned, singular } = readDiscriminator(g, model);
    const dims = [images, 3, size, size];
    const both = concat([g.input('real', 'f32', dims), g.input('fake', 'f32', dims)], 0);
    const pixelWeights = g.input('pixelWeights', 'f32', [1, 1, size, size]);
    const inside = insideOf(pixelWeights);
    const views = ['weak', 'strong'].map((name) =>
      augment(both, pixelWeights, inside, augmentationInputs(g, name, 2 * images, size)),
    );
    const all = broughtTo(g, model, concat(views, 0)); // [4 B, 3, S, S]: weak and strong of [real; fake]
    const part = (i: number) => slice(all, 0, i * images, (i + 1) * images);
    const logits = model.isOverBatch
      ? concat(
          [0, 1, 2, 3].map((i) => model.logits(p, part(i))),
          0,
        )
      : model.logits(p, all); // [4 B, 1, h, w]
    const judged = judgedInput(g, logits);
    const [weak, strong] = [slice(logits, 0, 0, 2 * images), slice(logits, 0, 2 * images, 4 * images)];
    const [real, fake] = [slice(weak, 0, 0, images), slice(weak, 0, images, 2 * images)];

    const positive = (x: Value) => maximum(x, 0);
    const [ofReal, ofFake] =
      (recipe.loss ?? 'hinge') === 'hinge'
        ? [positive(sub(1, real)), positive(add(1, fake))]
        : [softplus(neg(real)), softplus(fake)];
    const taught = mul(add(weightedMean(ofReal, judged), weightedMean(ofFake, judged)), 0.5);
    const means = { judgedReal: weightedMean(real, judged), judgedFake: weightedMean(fake, judged) };
    const running = (name: string, mean: Value) =>
      add(mul(g.input(name, 'f32', [1]), LECAM_DECAY), mul(stopGradient(mean), 1 - LECAM_DECAY));
    const above = (x: Value, y: Value) => {
      const excess = positive(sub(x, y));
      return weightedMean(mul(excess, excess), judged);
    };
    const lecam = add(
      above(real, reshape(running('emaFake', means.judgedFake), [1, 1, 1, 1])),
      above(reshape(running('emaReal', means.judgedReal), [1, 1, 1, 1]), fake),
    );
    const difference = sub(weak, strong);
    const consistency = weightedMean(mul(difference, difference), judged);
    const loss = add(
      mul(add(taught, mul(lecam, recipe.lecam)), recipe.weight),
      mul(consistency, recipe.consistency),
    );
    accumulateGradients(g, specs, gradients(loss, learned));
    const next = [...singular].map(([name, u]) => [nextSingular(name), u]);
    return { loss, ...means, ...Object.fromEntries(next) };
  });
}

/**
 * Weights of the h x w judgements of a canvas of S pixels, whose image of R pixels lies in the top left corner: equal
 * ones for those whose centre lies in the image, and they sum to 1.
 */
export function judgedWeights(
  [height, width]: readonly number[],
  { canvas, size }: { canvas: number; size: number },
): Float32Array {
  const isInside = (i: number, extent: number) => (i === 0 ? true : ((i + 0.5) / extent) * canvas < size);
  const weights = Float32Array.from({ length: height * width }, (_, i) =>
    isInside(Math.floor(i / width), height) && isInside(i % width, width) ? 1 : 0,
  );
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

/** The output with the singular vector of a weight after a step. */
export const nextSingular = (name: string): string => `next.${name}`;

/**
 * Height and width of the judgements of images of S x S pixels.
 * @throws DetailFlowError `config` when they are too small to be judged
 */
export function judgementSize(model: Discriminator, size: number): readonly [number, number] {
  const side = model.side ?? size;
  let found: readonly number[] = [];
  try {
    trace((g) => {
      const logits = model.logits(discriminatorWeights(g, model), g.input('x', 'f32', [1, 3, side, side]));
      found = logits.shape as number[];
      return { logits };
    });
  } catch (cause) {
    if (!DetailFlowError.isInstance(cause) || cause.code !== 'shape') throw cause;
    throw new DetailFlowError(
      'config',
      `images of ${size} pixels are too small for this discriminator (${cause.message})`,
      { entry: 'tokenizer.adversarial', cause },
    );
  }
  return [found[2], found[3]];
}

/** Images at the side that a discriminator takes, or as they are. */
function broughtTo(g: GraphBuilder, { side }: Discriminator, images: Value): Value {
  if (side === undefined) return images;
  const view = g.input(JUDGED_VIEW, 'f32', [side, images.shape[3]]);
  return viewed(images, view);
}

/** log(1 + e^x), without overflow. */
function softplus(x: Value): Value {
  const size = maximum(x, neg(x));
  return add(maximum(x, 0), log(add(1, exp(neg(size)))));
}

const insideOf = (pixelWeights: Value) => select(less(0, pixelWeights), 1, 0);

const judgedInput = (g: GraphBuilder, logits: Value) =>
  g.input(JUDGED, 'f32', [1, 1, ...(logits.shape.slice(2) as number[])]);

/** Mean over the batch of sums with weights that sum to 1: [1]. */
function weightedMean(x: Value, weights: Value): Value {
  const [batch] = x.shape as number[];
  return mul(reshape(sum(mul(x, weights), [0, 1, 2, 3]), [1]), 1 / batch);
}
