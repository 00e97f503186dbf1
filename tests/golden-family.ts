import { readFileSync } from 'node:fs';
import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { bytesSource, Tensor, type Value, type Weights } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import {
  parseScales,
  renamedVarWeights,
  scaleTokenizerConfigOf,
  scaleTransformerConfigOf,
} from '@detailflow/var';
import { expect } from 'vitest';
import { type GoldenTensor, goldenJson } from './golden';

const folder = new URL('./fixtures/golden/family/', import.meta.url);

async function familyCheckpoint(file: string) {
  const bytes = new Uint8Array(readFileSync(new URL(file, folder)));
  return readTorchCheckpoint(bytesSource(bytes, file));
}

export const familyWeights = async (file: string, key?: string): Promise<Weights> =>
  stateDict(await familyCheckpoint(file), key);

export const floatTensor = ({ shape, data }: GoldenTensor): Tensor<'float32'> =>
  new Tensor('float32', data as Float32Array, shape);

export const integerTensor = ({ shape, data }: GoldenTensor): Tensor<'int32'> =>
  new Tensor('int32', data as Int32Array, shape);

export const integers = ({ data }: { readonly data: ArrayLike<unknown> }): number[] =>
  Array.from(data, Number);

/** The first rows of an array. */
export function firstRows({ shape, data }: GoldenTensor, rows: number): Tensor<'float32'> {
  const size = data.length / shape[0];
  return new Tensor('float32', (data as Float32Array).slice(0, rows * size), [rows, ...shape.slice(1)]);
}

export async function varParts() {
  const scales = parseScales(goldenJson('family/var/config.json').patch_nums);
  const vae = renamedVarWeights(await familyWeights('var/vae_ch32v80z8.pth'));
  const weights = await familyWeights('var/var_d2.pth');
  const tokenizerConfig = scaleTokenizerConfigOf(vae, 'residual', { scales });
  return { scales, vae, weights, tokenizerConfig, config: scaleTransformerConfigOf(weights, scales) };
}

export async function flexVarParts(list: readonly number[]) {
  const scales = parseScales(list);
  const vae = await familyWeights('flexvar/FlexVAE.pth', 'model');
  const { root, file } = await familyCheckpoint('flexvar/FlexVARd3-epo7.pth');
  const trainer = (root as Map<string, Map<string, never>>).get('trainer');
  const weights: Weights = stateDict({ root: trainer?.get('var_wo_ddp') as never, file });
  const tokenizerConfig = scaleTokenizerConfigOf(vae, 'plain', { scales });
  return { scales, vae, weights, tokenizerConfig, config: scaleTransformerConfigOf(weights, scales) };
}

/** Adds the gradient of every parameter that a loss depends on, as outputs `grad.NAME`. */
export function withGradients(
  outputs: Record<string, Value> & { readonly loss: Value },
  p: (name: string) => Value,
  names: readonly string[],
): Record<string, Value> {
  const found = gradients(outputs.loss, names.map(p));
  const entries = names.flatMap((name, i) => {
    const value = found[i];
    return value ? [[`grad.${name}`, value] as const] : [];
  });
  return { ...outputs, ...Object.fromEntries(entries) };
}

/** What golden.json says of an array: its norm, sum, largest magnitude and first numbers. */
export type Summary =
  | { readonly norm: number; readonly sum: number; readonly absmax: number; readonly first: number[] }
  | readonly [number, number, number, number[]];

/** Norms to 1e-3 relative, the rest against the norm; a norm below `rounding` is none. */
export function expectSummary(
  name: string,
  actual: ArrayLike<number>,
  summary: Summary,
  rounding = 1e-6,
): void {
  const { norm, sum, absmax, first } =
    'norm' in summary
      ? summary
      : { norm: summary[0], sum: summary[1], absmax: summary[2], first: summary[3] };
  const values = Array.from(actual);
  const found = Math.hypot(...values.map(Number));
  if (norm < rounding) {
    expect(found, `${name}: zero but for rounding`).toBeLessThan(rounding);
    return;
  }
  const close = (what: string, value: number, reference: number) =>
    expect(Math.abs(value - reference), `${name}: ${what} is ${value}, not ${reference}`).toBeLessThanOrEqual(
      1e-3 * norm,
    );
  close('norm', found, norm);
  close(
    'absmax',
    values.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0),
    absmax,
  );
  const root = Math.sqrt(values.length);
  close('sum', values.reduce((a, b) => a + b, 0) / root, sum / root);
  for (const [i, value] of first.entries()) close(`[${i}]`, values[i], value);
}

/** Every gradient of a list of summaries; null says that there is none. */
export function expectGradients(
  results: Readonly<Record<string, { readonly data: ArrayLike<unknown> } | undefined>>,
  summaries: Readonly<Record<string, Summary | null>>,
  nameOf: (name: string) => string = (name) => name,
): void {
  const entries = Object.entries(summaries);
  expect(entries.length).toBeGreaterThan(0);
  const norms = entries.map(([, one]) => (one === null ? 0 : 'norm' in one ? one.norm : one[0]));
  const rounding = 1e-4 * Math.max(...norms);
  for (const [name, summary] of entries) {
    const found = results[`grad.${nameOf(name)}`]?.data;
    if (summary === null) {
      expect(found === undefined || Array.from(found).every((x) => x === 0), name).toBe(true);
    } else {
      expect(found, name).toBeDefined();
      expectSummary(name, found as ArrayLike<number>, summary, rounding);
    }
  }
}

/** Parameters of VAR's tokenizer have LlamaGen's names here; two levels. */
export const renamedVae = (name: string) =>
  name
    .replace(/^encoder\.down\.(\d+)\.block\./, 'encoder.conv_blocks.$1.res.')
    .replace(/^encoder\.down\.(\d+)\./, 'encoder.conv_blocks.$1.')
    .replace(/^decoder\.up\.(\d+)\.block\./, (_, i) => `decoder.conv_blocks.${1 - Number(i)}.res.`)
    .replace(/^decoder\.up\.(\d+)\./, (_, i) => `decoder.conv_blocks.${1 - Number(i)}.`)
    .replace(/^(encoder|decoder)\.mid\.block_(\d)\./, (_, h, i) => `${h}.mid.${2 * (Number(i) - 1)}.`)
    .replace(/^(encoder|decoder)\.mid\.attn_1\./, '$1.mid.1.');
