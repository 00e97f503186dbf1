import { type InitialValues, uniform, unitRows } from '@detailflow/blocks';
import { type ParameterSpec, RandomStream } from '@detailflow/core';
import { Purpose } from './purpose';

/** Initial values of named parameters. */
export type Arrays = Map<string, Float32Array>;

interface InitialiseOptions {
  readonly specs: readonly ParameterSpec[];
  readonly seed: number;
}

/** The spread of embeddings and learned tokens. */
const DEVIATION = 0.02;

/**
 * Initial weights of a tokenizer trained from scratch: learned tokens N(0, .02), codebook uniform (+-1/K) and of unit length unless
 * it is not normalised,
 * convs and to_pixel U(+-1/sqrt(fan in)), towers Xavier-uniform with zero biases, position table N(0, 1/sqrt(width)),
 * patch embedding truncated LeCun-normal. Source: docs/method.md section 5.
 */
export function initialTokenizer({
  specs,
  seed,
  isNormalised = true,
}: InitialiseOptions & { readonly isNormalised?: boolean }): Arrays {
  return initialise(specs, seed, (name, shape, random) => {
    if (/(latent_tokens|refined_tokens|mask_token|latent_pos_embed)$/.test(name)) {
      return () => DEVIATION * random.normal();
    }
    if (name === 'quantize.embedding.weight')
      return isNormalised ? unitRows(shape[1], random) : uniform(1 / shape[0], random);
    if (/position_embedding\.weight$/.test(name)) return () => random.normal() / Math.sqrt(shape[1]);
    if (/patch_embedding\.weight$/.test(name)) return lecunNormal(shape[1], random);
    if (/norm\d?\.weight$/.test(name)) return () => 1;
    if (name.includes('visual_model')) {
      return shape.length === 2 ? uniform(Math.sqrt(6 / (shape[0] + shape[1])), random) : () => 0;
    }
    const weight = specs.find((spec) => spec.name === name.replace(/bias$/, 'weight')) as ParameterSpec;
    return uniform(1 / Math.sqrt(weight.shape[1]), random);
  });
}

/**
 * Initial weights of an AR model: Linear and Embedding N(0, .02), special embeddings N(0, 1), `output` zero, norms 1.
 * Source: docs/method.md section 5.
 */
export const initialTokenModel = ({ specs, seed }: InitialiseOptions): Arrays =>
  initialise(specs, seed, drawnTokenModel);

/** How {@link initialTokenModel} draws. */
export const drawnTokenModel: InitialValues = (name, shape, random) => {
  if (name === 'output.weight') return () => 0;
  if (shape.length === 1) return () => 1;
  if (name.startsWith('spe_tok_embeddings')) return () => random.normal();
  return () => DEVIATION * random.normal();
};

/** Initial weights of a discriminator, unless it says otherwise: N(0, .02), those of norms N(1, .02), biases 0. */
export const initialDiscriminator = ({
  specs,
  seed,
  initial = drawnDiscriminator,
}: InitialiseOptions & { readonly initial?: InitialValues }): Arrays => initialise(specs, seed, initial);

const drawnDiscriminator: InitialValues = (name, shape, random) => {
  if (/norm\d?\.weight$/.test(name)) return () => 1 + DEVIATION * random.normal();
  return shape.length === 1 ? () => 0 : () => DEVIATION * random.normal();
};

/** Initial weights of a classifier: N(0, 2 / fan in), biases 0. */
export function initialClassifier({ specs, seed }: InitialiseOptions): Arrays {
  return initialise(specs, seed, (_name, shape, random) => {
    if (shape.length === 1) return () => 0;
    const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
    return () => Math.sqrt(2 / fanIn) * random.normal();
  });
}

type Sampler = () => number;

/** Values of all parameters, each from a stream of its own. */
export function initialise(specs: readonly ParameterSpec[], seed: number, samplerOf: InitialValues): Arrays {
  const arrays: Arrays = new Map();
  for (const [position, { name, shape }] of specs.entries()) {
    const random = new RandomStream({ seed, purpose: Purpose.initialise, position });
    const size = shape.reduce((a, b) => a * b, 1);
    arrays.set(name, Float32Array.from({ length: size }, samplerOf(name, shape, random)));
  }
  return arrays;
}

/** What is left of the spread of N(0, 1) when it is cut at two deviations. */
const CUT_DEVIATION = 0.8796256610342398;

/** N(0, 1/sqrt(fanIn)) cut at two deviations, stretched to keep its spread. */
function lecunNormal(fanIn: number, random: RandomStream): Sampler {
  const deviation = 1 / Math.sqrt(fanIn) / CUT_DEVIATION;
  return () => {
    let x = random.normal();
    while (Math.abs(x) > 2) x = random.normal();
    return deviation * x;
  };
}
