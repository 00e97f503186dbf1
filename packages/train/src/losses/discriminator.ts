import type { InitialValues, VitConfig } from '@detailflow/blocks';
import type { GraphBuilder, ParameterSpec, Value, Weights } from '@detailflow/core';
import {
  type BlurDiscriminatorConfig,
  blurDiscriminator,
  blurDiscriminatorParameters,
  dinoDiscriminator,
  dinoDiscriminatorParameters,
  dinoFixedParameters,
  dinoSpectralWeights,
  type PatchDiscriminatorConfig,
  patchDiscriminator,
  patchDiscriminatorParameters,
  type StyleDiscriminatorConfig,
  spectralNorm,
  styleDiscriminator,
  styleDiscriminatorParameters,
  vitNetworkSize,
} from '@detailflow/features';
import { Buffer, sharedParameters } from '../optimiser';

/**
 * A network that tells real images from restored ones. Give one of your own to put heads on the features of a network
 * that you have: its weights are `fixed`, those of the heads are learned.
 */
export interface Discriminator {
  /** Names and shapes of what is learned. */
  readonly specs: readonly ParameterSpec[];
  readonly fixed?: { readonly specs: readonly ParameterSpec[]; readonly weights: Weights };
  /** Where what is learned begins; N(0, .02), norms N(1, .02) and biases 0 without it. */
  readonly initial?: InitialValues;
  /**
   * Side in pixels of the images that it takes: those of a step are brought to it, by area where they are larger, else bicubically.
   * Without it an image is judged as it lies on its canvas.
   */
  readonly side?: number;
  /**
   * Names of learned weights that are divided by their largest singular value before they are used; it is followed by one step of power
   * iteration a step of training.
   */
  readonly spectral?: readonly string[];
  /**
   * Judgements, high for real images.
   * @param p a weight by its name, learned or fixed
   * @param x [B, 3, S, S] in [-1, 1]
   * @returns [B, 1, h, w], of h x w parts of the image
   */
  logits(p: (name: string) => Value, x: Value): Value;
  /** Whether the judgement of an image depends on the others of its batch, so that real and restored ones must not share one. */
  readonly isOverBatch?: boolean;
}

/** A PatchGAN. */
export const patchGan = (config: PatchDiscriminatorConfig): Discriminator => ({
  specs: patchDiscriminatorParameters(config),
  logits: (p, x) => patchDiscriminator(p, config, x),
  isOverBatch: config.norm === 'batch',
});

/** Heads on the features of a frozen vision transformer: see `dinoDiscriminator` of `@detailflow/features`. */
export const dinoGan = ({
  config,
  weights,
}: {
  readonly config: VitConfig;
  /** With the names of `vitNetworkWeights`. */
  readonly weights: Weights;
}): Discriminator => {
  const specs = dinoFixedParameters(config);
  const own = new Set(specs.map(({ name }) => name));
  return {
    specs: dinoDiscriminatorParameters(config),
    fixed: { specs, weights: new Map([...weights].filter(([name]) => own.has(name))) },
    side: vitNetworkSize(config),
    spectral: dinoSpectralWeights(config),
    logits: (p, x) => dinoDiscriminator(p, config, x),
    isOverBatch: true,
  };
};

/** StyleGAN2's discriminator: see `styleDiscriminator` of `@detailflow/features`. */
export const styleGan = (config: StyleDiscriminatorConfig): Discriminator => ({
  specs: styleDiscriminatorParameters(config),
  initial: (_name, shape, random) => (shape.length === 1 ? () => 0 : () => random.normal()),
  side: config.size,
  logits: (p, x) => styleDiscriminator(p, config, x),
  isOverBatch: true,
});

/** MaskBit's discriminator: see `blurDiscriminator` of `@detailflow/features`. */
export const blurGan = (config: BlurDiscriminatorConfig): Discriminator => ({
  specs: blurDiscriminatorParameters(config),
  logits: (p, x) => blurDiscriminator(p, config, x),
});

const PREFIX = 'discriminator.';

/** The parameters as a learner knows them, apart from those of the tokenizer. */
export const discriminatorSpecs = ({ specs }: Discriminator): readonly ParameterSpec[] =>
  specs.map(({ name, shape }) => ({ name: PREFIX + name, shape }));

/** The weights of a discriminator in a graph. */
export interface DiscriminatorReading {
  /** A weight as the network uses it: fixed, learned, or learned and normalised. */
  readonly weight: (name: string) => Value;
  /** What is learned, as it is, in the order of the specs. */
  readonly learned: readonly Value[];
  /** Singular vectors after the step of power iteration, by the names of the weights, as far as these have been read. */
  readonly singular: ReadonlyMap<string, Value>;
}

/** The feed [O] with the singular vector of a weight [O, ...] so far. */
export const singularFeed = (name: string): string => `singular.${name}`;

/** Reads the weights of a discriminator in a graph: what is learned from the learner's buffers. */
export function readDiscriminator(g: GraphBuilder, model: Discriminator): DiscriminatorReading {
  const buffers = sharedParameters(g, discriminatorSpecs(model), Buffer.parameter);
  const fixed = new Map(model.fixed?.specs.map(({ name, shape }) => [name, shape]));
  const spectral = new Set(model.spectral);
  const normalised = new Map<string, Value>();
  const singular = new Map<string, Value>();
  const weight = (name: string): Value => {
    const shape = fixed.get(name);
    if (shape) return g.weight(name, shape);
    const learned = buffers(PREFIX + name);
    if (!spectral.has(name)) return learned;
    const known = normalised.get(name);
    if (known) return known;
    const found = spectralNorm(learned, g.input(singularFeed(name), 'f32', [learned.shape[0]]));
    normalised.set(name, found.weight);
    singular.set(name, found.u);
    return found.weight;
  };
  return { weight, singular, learned: model.specs.map(({ name }) => buffers(PREFIX + name)) };
}

/** The weights of {@link readDiscriminator} alone. */
export const discriminatorWeights = (g: GraphBuilder, model: Discriminator): ((name: string) => Value) =>
  readDiscriminator(g, model).weight;
