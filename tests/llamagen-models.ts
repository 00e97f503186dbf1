import { readFileSync } from 'node:fs';
import { Tensor, type Weight, weightFromArray } from '@detailflow/core';
import { expect } from 'vitest';
import { exactNumbers } from './numbers-by-formula';
import { numbersOf } from './softvq-models';

/** Names by their parts; arrays of numbers in the end. */
export interface Nested {
  readonly [part: string]: readonly number[] | Nested;
}

/** Some numbers of an array: every so many. */
export interface Sampled {
  readonly every: number;
  readonly values: readonly number[];
}

/** A tokenizer that no golden value covers, and what tools/reference/llamagen.py computes for it in PyTorch. */
export interface OddTokenizer {
  readonly isNormalised: boolean;
  /** Height and width of the picture in codes. */
  readonly rows: number;
  readonly columns: number;
  /** Pixels of a code's side. */
  readonly factor: number;
  readonly shapes: Nested;
  readonly image: { readonly name: string; readonly codes: readonly number[] };
  readonly pixels: Sampled;
  /** Those pixels in 8 bits; -1 where rounding may decide. */
  readonly bytes: readonly number[];
  readonly resized?: Sampled & { readonly size: number };
  readonly train?: {
    readonly beta: number;
    readonly ratio: number;
    readonly losses: Readonly<Record<string, number>>;
    readonly gradients: Nested;
  };
}

/** One way of drawing, and the tokens it gives. */
export interface OddRun {
  readonly cfg: number;
  readonly greedy?: boolean;
  readonly interval?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly noise: { readonly name: string; readonly tokens: readonly number[] };
}

/** A transformer of the same kind. */
export interface OddModel {
  readonly kind: 'raster' | 'regions' | 'text';
  readonly args: Readonly<Record<string, number | string | null>>;
  readonly shapes: Nested;
  readonly labels?: readonly number[];
  /** Valid rows of each text; they come last. */
  readonly lengths?: readonly number[];
  readonly order?: readonly number[];
  readonly logits: Sampled;
  readonly means: readonly number[];
  /** What tokens of the second run look like. */
  readonly picture?: Sampled & { readonly tokenizer: string };
  readonly runs: readonly OddRun[];
  readonly train: { readonly loss: number; readonly lossOfNone?: number; readonly gradients: Nested };
}

const known: {
  readonly tokenizers: Readonly<Record<string, OddTokenizer>>;
  readonly models: Readonly<Record<string, OddModel>>;
} = JSON.parse(readFileSync(new URL('./fixtures/llamagen-odd.json', import.meta.url), 'utf8'));

export const { tokenizers: oddVqTokenizers, models: oddGpts } = known;

/** Full names and what stands there. */
export const entriesOf = (tree: Nested, prefix = ''): [string, readonly number[]][] =>
  Object.entries(tree).flatMap(([part, value]): [string, readonly number[]][] =>
    isNumbers(value) ? [[prefix + part, value]] : entriesOf(value, `${prefix}${part}.`),
  );

const isNumbers = (value: readonly number[] | Nested): value is readonly number[] => Array.isArray(value);

/** As tools/reference/llamagen.py fills a weight. */
function weightData(name: string, shape: readonly number[]): Float32Array {
  const x = numbersOf(name, shape);
  if (name.includes('norm') && name.endsWith('weight')) return x.map((v) => 1 + 0.3 * v);
  if (shape.length === 1) return x.map((v) => 0.1 * v);
  if (name.includes('embedding')) return x;
  const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
  return x.map((v) => v * Math.sqrt(3 / fanIn));
}

/** The weights of a configuration by formula. */
export const weightsOf = (shapes: Nested): Map<string, Weight> =>
  new Map(
    entriesOf(shapes).map(([name, shape]) => [name, weightFromArray(name, shape, weightData(name, shape))]),
  );

/** Integers from 0 up to, not including, `most`. */
export const wholeNumbers = (name: string, most: number, count: number): Int32Array =>
  Int32Array.from(exactNumbers(name, count), (x) => Math.floor(((x + 1) / 2) * most));

/** Noise of draws. */
export const exponentialNoise = (name: string, shape: readonly number[]): Tensor<'float32'> => {
  const count = shape.reduce((a, b) => a * b, 1);
  const data = Float32Array.from(exactNumbers(name, count), (x) => -Math.log((x + 1.0001) / 2.0002));
  return new Tensor('float32', data, [...shape]);
};

/** Numbers of a tensor that are stored. */
export const sampledOf = (data: ArrayLike<number>, { every }: Sampled): number[] =>
  Array.from({ length: Math.ceil(data.length / every) }, (_, i) => data[i * every]);

/** Every gradient: its norm, and its product with numbers of the formula. */
export function expectGradients(
  results: Readonly<Record<string, { readonly data: ArrayLike<unknown>; readonly dims: readonly number[] }>>,
  gradients: Nested,
): void {
  const known = entriesOf(gradients);
  const largest = Math.max(...known.map(([, [norm]]) => norm));
  for (const [name, [norm, product]] of known) {
    expect(results[`grad.${name}`], name).toBeDefined();
    const data = Array.from(results[`grad.${name}`].data, Number);
    const probe = numbersOf(`probe ${name}`, [data.length]);
    const found = [Math.hypot(...data), data.reduce((sum, x, i) => sum + x * probe[i], 0)];
    for (const [i, value] of [norm, product].entries()) {
      const error = Math.abs(found[i] - value);
      expect(error, `${name}: ${found[i]} instead of ${value}`).toBeLessThan(1e-3 * norm + 1e-6 * largest);
    }
  }
}

/** RGBA of every pixel -> all of red, green and blue. */
export const planes = (rgba: Uint8ClampedArray): number[] =>
  [0, 1, 2].flatMap((channel) => Array.from(rgba).filter((_, i) => i % 4 === channel));
