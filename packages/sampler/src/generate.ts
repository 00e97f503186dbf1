import {
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  describe,
  exponentialNoise,
  type Guidance,
  type ImageTokenizer,
  isTensor,
  type OptionNames,
  type Picture,
  pictureFromPixels,
  Tensor,
  type TokenChoice,
  type TokenModel,
} from '@detailflow/core';
import { chooseHere } from './choose-here';
import { drawOnDevice } from './draw-on-device';
import { type GivenOptions, givenTokens } from './given-tokens';
import { lastPosition, plannedSteps } from './plan-steps';
import { requireModels } from './require-models';
import type { SamplePlan, SampleStep } from './sample-plan';

/** What is drawn, and how: classes, guidance, randomness, filters. */
export interface SampleOptions extends CallOptions, GivenOptions, Partial<TokenChoice> {
  readonly model: TokenModel;
  /** One condition for each image: class numbers, the last (`model.classes`) for none, or texts. */
  readonly labels: readonly Condition[];
  /**
   * Classifier-free guidance scale: none is 1, or 0 where guidance grows along the steps (VAR, FlexVAR); default: what the model
   * recommends, or 1.5.
   */
  readonly cfg?: number;
  /** How the scale runs along the steps: a name of the model's, or a function; default: the model's own. */
  readonly guidance?: string | Guidance;
  /** Image i uses seed + i, or seeds given one by one. Default 0. */
  readonly seed?: number | readonly number[];
  /** Always take the most likely token; temperature, top-k, top-p and seed then do not matter. */
  readonly greedy?: boolean;
  /** Stop after this many tokens, or the end of their group. */
  readonly tokens?: number;
  /** float32 [B, N, V]: Exp(1) draws to use instead of the seed's. */
  readonly noise?: Tensor<'float32'>;
  /**
   * Choose the tokens on the device, so that nothing is read back before somebody asks. Default: where the model says
   * that it is quicker. With top-p they are chosen here in any case.
   */
  readonly onDevice?: boolean;
}

/** Options of {@link generate}: those of sampling, and the tokenizer that draws. */
export interface GenerateOptions extends SampleOptions {
  readonly tokenizer: ImageTokenizer;
}

/** Those that every way of sampling has. */
export const commonOptionNames: OptionNames<Omit<SampleOptions, 'tokens' | 'prefix' | 'keep'>> = {
  ...{ model: true, labels: true, seed: true, greedy: true, noise: true, onDevice: true, signal: true },
  ...{ temperature: true, topK: true, topP: true, cfg: true, guidance: true },
};

const sampleOptionNames: OptionNames<SampleOptions> = {
  ...commonOptionNames,
  ...{ tokens: true, prefix: true, keep: true },
};

/** The state of a generation after a step; pictures are decoded only when asked for. */
export interface GenerationStep extends SampleStep {
  /** Side in pixels of a picture of these tokens. */
  readonly resolution: number;
  /** float32 [B, 3, R, R], at `resolution` or at `size`. */
  pixels(options?: { size?: number }): Promise<Tensor<'float32'>>;
  /** One picture, the first unless said. */
  image(index?: number, options?: { size?: number }): Promise<Picture>;
}

/**
 * Draws pictures: full ones, or smaller ones where the model has fewer tokens than the tokenizer. Yields after every step of
 * the model; leave the loop or abort `signal` to stop. The same seed gives the same picture whatever batch it is part of.
 * @throws DetailFlowError `invalid-argument`; the signal's reason when aborted
 * @see https://detailflow.github.io/detailflow-ts/guide/previews.html
 */
export async function* generate(options: GenerateOptions): AsyncGenerator<GenerationStep, void, void> {
  checkOptions('generate', options, { ...sampleOptionNames, tokenizer: true });
  const { tokenizer, ...sampling } = options;
  const { model, signal } = sampling;
  requireModels({ model, tokenizer });
  if (model.tokens > tokenizer.tokens || tokenizer.codebookSize !== model.vocabularySize) {
    throw new DetailFlowError(
      'invalid-argument',
      `the tokenizer has ${tokenizer.tokens} tokens of ${tokenizer.codebookSize} codes, the AR model ${model.tokens} of ${model.vocabularySize}: they do not belong together`,
    );
  }
  const decode = (codes: Tensor<'int32'>, options: { size?: number } = {}) => {
    checkOptions('pixels', options, { size: true });
    return tokenizer.decode(codes, { ...options, signal });
  };
  for await (const step of sampleTokens(sampling)) {
    yield {
      ...step,
      resolution: tokenizer.resolution(step.count),
      pixels: async (options) => decode(await step.tokens(), options),
      image: async (index = 0, options) =>
        pictureFromPixels(await decode(tokensOf(await step.tokens(), index), options)),
    };
  }
}

/**
 * Samples token sequences without decoding them. Source: docs/method.md section 4.
 * @throws DetailFlowError `invalid-argument`; `runtime` when the model's logits are not finite; the signal's reason when aborted
 */
export async function* sampleTokens(options: SampleOptions): AsyncGenerator<SampleStep, void, void> {
  checkOptions('sampleTokens', options, sampleOptionNames);
  const { model, labels, signal } = options;
  requireModels({ model });
  if (!Array.isArray(labels)) {
    throw new DetailFlowError(
      'invalid-argument',
      `labels are ${describe(labels)}; give a list with one class number for each image`,
    );
  }
  const total = lastPosition(options.tokens ?? model.tokens, model);
  const given = givenTokens(options, model, labels.length, total);
  const steps = plannedSteps(options, total, (place) => given.has(place));
  const plan: SamplePlan = {
    ...{ model, conditions: labels, steps, total, givenAt: given.at, signal },
    greedy: options.greedy ?? false,
    isGuided: steps.some(({ scale }) => scale !== 1),
    noiseOf: noiseSource(options),
  };
  const [first] = steps;
  const isUniform = steps.every(({ choice: { topK, topP } }) => topK === first.choice.topK && topP === 1);
  const begin = model.beginDrawing?.bind(model);
  const onDevice = isUniform && (options.onDevice ?? model.drawsOnDevice ?? false);
  yield* begin && onDevice ? drawOnDevice(plan, begin) : chooseHere(plan);
}

/** The tokens of one image: int32 [1, count]. */
function tokensOf(tokens: Tensor<'int32'>, index: number): Tensor<'int32'> {
  const [batch, count] = tokens.dims;
  if (!Number.isInteger(index) || index < 0 || index >= batch) {
    throw new DetailFlowError(
      'invalid-argument',
      `there is no image ${describe(index)}; give 0 to ${batch - 1}`,
    );
  }
  return new Tensor('int32', tokens.data.slice(index * count, (index + 1) * count), [1, count]);
}

/** The noise of one token: from the tensor given, or drawn from the image's seed. */
function noiseSource({
  noise,
  seed = 0,
  labels,
  model,
}: SampleOptions): (image: number, place: number) => Float32Array {
  const { tokens, vocabularySize: size } = model;
  if (noise) {
    if (
      !isTensor(noise) ||
      noise.type !== 'float32' ||
      noise.dims.join() !== [labels.length, tokens, size].join()
    ) {
      throw new DetailFlowError(
        'invalid-argument',
        `noise is ${describe(noise)}; give float32 [${labels.length}, ${tokens}, ${size}]`,
      );
    }
    const draws = noise.data;
    if (!draws.every((e) => e > 0))
      throw new DetailFlowError('invalid-argument', 'noise holds numbers that are not above 0');
    return (image, place) =>
      draws.subarray((image * tokens + place) * size, (image * tokens + place + 1) * size);
  }
  const seeds = typeof seed === 'number' ? labels.map((_, i) => seed + i) : seed;
  if (
    !Array.isArray(seeds) ||
    seeds.length !== labels.length ||
    !seeds.every((value) => Number.isSafeInteger(value) && value >= 0)
  ) {
    throw new DetailFlowError(
      'invalid-argument',
      `seed is ${describe(seed)}; give a whole number from 0, or one for each of the ${labels.length} images`,
    );
  }
  const out = new Float32Array(size);
  return (image, position) => exponentialNoise({ seed: seeds[image], position, count: size, out });
}
