import { type ImageModelV3CallOptions, InvalidArgumentError } from '@ai-sdk/provider';
import { describe, suggestion } from '@detailflow/core';

/** `providerOptions.detailflow` of a call. */
export interface DetailFlowImageOptions {
  /** Guidance scale; none is 1, or 0 where guidance grows along the steps (VAR, FlexVAR). */
  readonly cfg?: number;
  /** How the scale runs along the steps: `constant`, or one of the model's. */
  readonly guidance?: string;
  /** Stop after so many tokens: a coarser picture. */
  readonly tokens?: number;
  /** Above 0. */
  readonly temperature?: number;
  /** Draw among the most likely tokens; 0 for all. */
  readonly topK?: number;
  /** Draw among the most likely tokens of this total probability. */
  readonly topP?: number;
  /** Of pictures that are given: first tokens that stay; default half of them. */
  readonly keep?: number;
}

type Check = readonly [isRight: (value: unknown) => boolean, range: string];

const isNumber = (least: number, most: number) => (value: unknown) =>
  typeof value === 'number' && value >= least && value <= most;
const isWhole = (least: number) => (value: unknown) =>
  Number.isSafeInteger(value) && (value as number) >= least;

const checks: Readonly<Record<keyof DetailFlowImageOptions, Check>> = {
  cfg: [isNumber(0, 1000), 'a number from 0 to 1000'],
  guidance: [(value) => typeof value === 'string' && value !== '', 'a name'],
  tokens: [isWhole(1), 'a whole number from 1'],
  temperature: [isNumber(1e-5, 1e5), 'a number above 0'],
  topK: [isWhole(0), 'a whole number from 0'],
  topP: [isNumber(0, 1), 'a number from 0 to 1'],
  keep: [isWhole(0), 'a whole number from 0'],
};

/**
 * The options of a call that are DetailFlow's own.
 * @throws InvalidArgumentError naming the option that is unknown or out of its range
 */
export function drawOptions(options: ImageModelV3CallOptions): DetailFlowImageOptions {
  checkCall(options);
  const given = options.providerOptions?.detailflow ?? {};
  const fail = (name: string, problem: string) =>
    new InvalidArgumentError({
      argument: `providerOptions.detailflow.${name}`,
      message: `providerOptions.detailflow.${name} ${problem}`,
    });
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(checks, name)) {
      const known = Object.keys(checks);
      throw fail(name, `is unknown; ${suggestion(name, known) ?? `there are ${known.join(', ')}`}`);
    }
    const [isRight, range] = checks[name as keyof DetailFlowImageOptions];
    if (value !== undefined && !isRight(value)) throw fail(name, `is out of its range; give ${range}`);
  }
  return given as DetailFlowImageOptions;
}

/** What every call has, whoever makes it. @throws InvalidArgumentError */
function checkCall(options: ImageModelV3CallOptions): void {
  const wrong = (argument: string, value: unknown, wanted: string) =>
    new InvalidArgumentError({ argument, message: `${argument} is ${describe(value)}; give ${wanted}` });
  if (typeof options !== 'object' || options === null) throw wrong('options', options, 'an object');
  const { prompt, size, files, abortSignal: signal, providerOptions } = options;
  for (const [name, value] of Object.entries({ prompt, size })) {
    if (value !== undefined && value !== null && typeof value !== 'string')
      throw wrong(name, value, 'a text');
  }
  const isFile = (one: unknown) => typeof one === 'object' && one !== null;
  if (files !== undefined && !(Array.isArray(files) && files.every(isFile))) {
    throw wrong('files', files, 'a list of pictures');
  }
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') {
    throw wrong('abortSignal', signal, 'an AbortSignal');
  }
  const own: unknown = providerOptions?.detailflow ?? {};
  if (typeof own !== 'object' || Array.isArray(own))
    throw wrong('providerOptions.detailflow', own, 'an object');
}

/** Pictures of a call: more would be two calls of one seed, which draw the same pictures. */
export const MOST_PICTURES = 100_000;
const LARGEST_SEED = 2 ** 48;
const RANDOM_SEEDS = 2 ** 32;

/** The seed of the first picture: given, or a random one. @throws InvalidArgumentError */
export function firstSeed({ seed }: ImageModelV3CallOptions): number {
  if (seed === undefined) return Math.floor(Math.random() * RANDOM_SEEDS);
  if (Number.isSafeInteger(seed) && seed >= 0 && seed <= LARGEST_SEED) return seed;
  throw new InvalidArgumentError({
    argument: 'seed',
    message: `seed is ${seed}; give a whole number from 0 to ${LARGEST_SEED}`,
  });
}

/** How many pictures. @throws InvalidArgumentError */
export function pictureCount({ n }: ImageModelV3CallOptions): number {
  if (Number.isSafeInteger(n) && n >= 1 && n <= MOST_PICTURES) return n;
  throw new InvalidArgumentError({
    argument: 'n',
    message: `n is ${n}; give a whole number from 1 to ${MOST_PICTURES}`,
  });
}
