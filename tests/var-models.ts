import { readFileSync } from 'node:fs';
import type { ConfigObject, FamilyModel } from '@detailflow/checkpoint';
import { Tensor, weightFromArray } from '@detailflow/core';
import { flexvarFamily, type ScaleLike, varFamily } from '@detailflow/var';
import { expect } from 'vitest';
import { exactNumbers } from './numbers-by-formula';
import { safetensors, treeOf } from './softvq-models';

/** What tools/reference/var.py says of an array: its shape, some numbers, and the largest, the norm and a product. */
export interface Digest {
  readonly shape: readonly number[];
  readonly some: readonly number[];
  readonly sums: readonly [number, number, number];
}

type Shapes = Readonly<Record<string, readonly number[]>>;

/** A way of drawing, and what it gives. */
export interface OddRun {
  readonly options: {
    readonly scales: readonly ScaleLike[];
    readonly labels: readonly number[];
    readonly cfg: number;
    readonly top_k: number;
    readonly top_p?: number;
    readonly noise?: boolean;
    readonly smooth?: boolean;
    readonly mask?: { readonly region: readonly number[]; readonly inpaint: boolean };
    readonly max_pn?: number;
    readonly invalid?: readonly number[];
    readonly llamagen?: boolean;
  };
  readonly codes?: readonly (readonly number[])[];
  readonly kept?: readonly number[];
  readonly sums?: readonly Digest[];
  readonly picture: Digest;
}

/** A configuration that no golden value covers, and what tools/reference/var.py computes for it. */
export interface OddScales {
  readonly flex: boolean;
  readonly heads: number;
  readonly classes: number;
  readonly resi?: number;
  readonly znorm?: boolean;
  readonly l2: boolean;
  readonly scales: readonly ScaleLike[];
  readonly salt: string;
  readonly shapes: { readonly vae: Shapes; readonly var: Shapes };
  readonly lists: readonly {
    readonly scales: readonly ScaleLike[];
    readonly images: readonly number[];
    readonly latents: Digest;
    readonly codes: readonly (readonly number[])[];
    readonly inputs: Digest;
    readonly sums?: readonly Digest[];
    readonly pictures: readonly (Digest | null)[];
  }[];
  readonly forward: readonly {
    readonly scales: readonly ScaleLike[];
    readonly logits: Digest;
    readonly loss: number;
    readonly smoothed: number;
    readonly progressive: number;
    readonly known: number;
  }[];
  readonly runs: Readonly<Record<string, OddRun>>;
}

interface OddFile {
  readonly cases: Readonly<Record<string, OddScales>>;
  readonly areas: readonly (Digest & { readonly scale: ScaleLike })[];
}

export const oddScales: OddFile = JSON.parse(
  readFileSync(new URL('./fixtures/var-odd.json', import.meta.url), 'utf8'),
);

const FACTORS: Readonly<Record<string, number>> = { 'head.weight': 3, 'word_embed.weight': 6 };

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** As tools/reference/var.py fills a weight. */
function weightData(salt: string, name: string, shape: readonly number[]): Float32Array {
  const x = exactNumbers(salt + name, sizeOf(shape));
  const filled = (value: (x: number) => number) => Float32Array.from(x, value);
  if (name.endsWith('zero_k_bias')) return filled(() => 0);
  if (name.endsWith('scale_mul_1H11')) return filled((v) => Math.log(4) + 4 * v);
  if (name.includes('norm') && name.endsWith('weight')) return filled((v) => 1 + 0.3 * v);
  if (shape.length === 1) return filled((v) => 0.1 * v);
  if (/^quantize\.e|(pos_start|pos_1LC|ada_gss|_emb\.weight|lvl_embed\.weight)$/.test(name)) {
    return filled((v) => v);
  }
  const factor = name.includes('ada_lin') ? 0.5 : (FACTORS[name] ?? 1);
  return filled((v) => v * factor * Math.sqrt(3 / sizeOf(shape.slice(1))));
}

/** A model of a configuration, opened from files as they are released, for a list of scales. */
export async function openOdd(
  name: string,
  { flex, heads, l2, resi, znorm, shapes, salt }: OddScales,
  scales: readonly ScaleLike[],
  rules: ConfigObject = {},
): Promise<FamilyModel> {
  const file = (half: Shapes) =>
    safetensors(
      Object.entries(half).map(([key, shape]) => weightFromArray(key, shape, weightData(salt, key, shape))),
    );
  const files = {
    tokenizer: treeOf(name, { 'vae.safetensors': await file(shapes.vae) }),
    ar: treeOf(name, { 'var.safetensors': await file(shapes.var) }),
    settings: {
      ...{ scales: scales as number[], ...rules },
      ...(flex ? { system: 'flexvar' } : { quant_resi: resi as number }),
      ...(znorm && { using_znorm: true }),
      ...(!l2 && { num_heads: heads }),
    },
  };
  const family = flex ? flexvarFamily : varFamily;
  expect(await family.recognise(files)).toBe(true);
  return family.open(files);
}

/** Images, or whatever else is a formula, in [-1, 1). */
export function formulaTensor(name: string, shape: readonly number[]): Tensor<'float32'> {
  return new Tensor('float32', Float32Array.from(exactNumbers(name, sizeOf(shape))), shape);
}

/** Draws, above 0. */
export function formulaNoise(name: string, shape: readonly number[]): Tensor<'float32'> {
  const { data } = formulaTensor(name, shape);
  return new Tensor(
    'float32',
    data.map((x) => 1.01 + x),
    shape,
  );
}

/** Codes of a formula. */
export function formulaCodes(name: string, shape: readonly number[], count: number): Tensor<'int32'> {
  const codes = Int32Array.from(exactNumbers(name, sizeOf(shape)), (x) =>
    Math.min(Math.floor(((x + 1) / 2) * count), count - 1),
  );
  return new Tensor('int32', codes, shape);
}

/** Each number to 1e-4 of the largest one, or of 1; the sums to as much of the norm. */
export function expectDigest({ data, dims }: Tensor, { shape, some, sums }: Digest, what = ''): void {
  expect(dims, what).toEqual(shape);
  const all = Array.from(data, Number);
  const n = all.length;
  const [largest, norm, product] = sums;
  const found = some.map((_, i) => all[Math.floor((i * n) / some.length)]);
  const weights = exactNumbers('sum', n);
  const close = (value: number, reference: number, scale: number, which: string) =>
    expect(Math.abs(value - reference), `${what}: ${which} is ${value}, not ${reference}`).toBeLessThan(
      1e-4 * Math.max(1, scale),
    );
  for (const [i, value] of some.entries()) close(found[i], value, largest, `number ${i} of some`);
  close(
    all.reduce((most, x) => Math.max(most, Math.abs(x)), 0),
    ...([largest, largest, 'the largest'] as const),
  );
  close(Math.hypot(...all), norm, norm, 'the norm');
  close(
    all.reduce((sum, x, i) => sum + x * weights[i], 0),
    product,
    norm,
    'the product',
  );
}
