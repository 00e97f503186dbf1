import { type ConvTowerConfig, groupParameters, ignoredGroupWeights } from '@detailflow/blocks';
import type { ParameterSpec, Weight } from '@detailflow/core';
import {
  gptConfigOf,
  ignoredVqWeights,
  textGptConfigOf,
  textGptParameters,
  vqConfigOf,
  vqParameters,
} from '@detailflow/llamagen';
import {
  ignoredScaleWeights,
  parseScales,
  renamedVarWeights,
  SCALES_256,
  scaleTokenizerConfigOf,
  scaleTokenizerParameters,
  scaleTransformerConfigOf,
  scaleTransformerParameters,
} from '@detailflow/var';
import { expect, test } from 'vitest';
import { goldenJson } from './golden';

/** Names and shapes of the released files; {0-3} in a name stands for each of 0, 1, 2 and 3. */
const lists: Record<string, Record<string, number[]>> = goldenJson('family/official-keys.json');

function expanded(name: string): string[] {
  const [range, from, to] = /\{(\d+)-(\d+)\}/.exec(name) ?? [];
  if (range === undefined) return [name];
  const numbers = Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => Number(from) + i);
  return numbers.flatMap((number) => expanded(name.replace(range, String(number))));
}

const weightsOf = (file: string): Map<string, Weight> =>
  new Map(
    Object.entries(lists[file]).flatMap(([names, shape]) =>
      expanded(names).map((name): [string, Weight] => [
        name,
        { name, dtype: 'f32', shape, read: () => Promise.reject(new Error('nothing is read')) },
      ]),
    ),
  );

/** Our parameters are those of the file, but for what nobody needs, name by name and shape by shape. */
function expectSame(
  specs: readonly ParameterSpec[],
  weights: ReadonlyMap<string, Weight>,
  ignored: readonly string[],
): void {
  const known = new Set(ignored);
  const own = specs.map(({ name, shape }) => `${name} [${shape}]`).sort();
  const theirs = [...weights].flatMap(([name, { shape }]) => (known.has(name) ? [] : [`${name} [${shape}]`]));
  expect(own).toEqual(theirs.sort());
}

const tower = (channels: number[], more: Partial<ConvTowerConfig>) => ({ channels, blocks: 2, ...more });

test.each([
  { file: 'vq_ds16_c2i.pt', channels: [128, 128, 256, 256, 512], count: 344 },
  { file: 'vq_ds8_c2i.pt', channels: [128, 256, 256, 512], count: 300 },
])('LlamaGen, $file', ({ file, channels, count }) => {
  const weights = weightsOf(file);
  expect(weights.size).toBe(count);
  const config = vqConfigOf(weights, { imageSize: 256 });
  const half = tower(channels, { latentChannels: 256 });
  expect(config).toMatchObject({ encoder: half, decoder: half, codebookSize: 16384, codeDim: 8 });
  expectSame(vqParameters(config), weights, ignoredVqWeights);
});

test.each([
  { file: 'c2i_B_256.pt', dim: 768, layers: 12, heads: 12, tokens: 256, groupSize: 1, count: 88 },
  { file: 'c2i_L_384.pt', dim: 1024, layers: 24, heads: 16, tokens: 576, groupSize: 1, count: 172 },
  { file: 'PAR-XL-4x.pt', dim: 1280, layers: 36, heads: 20, tokens: 576, groupSize: 4, count: 257 },
  { file: 'PAR-3B-16x.pt', dim: 3200, layers: 24, heads: 32, tokens: 576, groupSize: 16, count: 173 },
])('LlamaGen and PAR, $file', ({ file, count, ...sizes }) => {
  const weights = weightsOf(file);
  expect(weights.size).toBe(count);
  const config = gptConfigOf(weights, {}, { file });
  expect(config).toMatchObject({ ...sizes, kvHeads: sizes.heads, vocabularySize: 16384, classes: 1000 });
  const ignored = ignoredGroupWeights.filter((name) => !name.endsWith('.'));
  expectSame(groupParameters(config), weights, ignored);
});

test('LlamaGen, t2i_XL_stage1_256.pt', () => {
  const file = 't2i_XL_stage1_256.pt';
  const weights = weightsOf(file);
  const config = textGptConfigOf(weights, {}, { file });
  expect(config).toMatchObject({ dim: 1280, layers: 36, heads: 20, tokens: 256, textPlaces: 120 });
  expectSame(textGptParameters(config), weights, []);
});

test('VAR, vae_ch160v4096z32.pth', () => {
  const weights = renamedVarWeights(weightsOf('vae_ch160v4096z32.pth'));
  const config = scaleTokenizerConfigOf(weights, 'residual');
  const half = tower([160, 160, 320, 320, 640], { latentChannels: 32, jointAttention: true });
  expect(config).toMatchObject({ encoder: half, decoder: half, codebookSize: 4096, codeDim: 32 });
  expect(config).toMatchObject({ quantKernel: 3, refinement: { kind: 'shared', count: 4, ratio: 0.5 } });
  expectSame(scaleTokenizerParameters(config), weights, ['quantize.ema_vocab_hit_SV']);
});

test('FlexVAR, FlexVAE.pth', () => {
  const weights = weightsOf('FlexVAE.pth');
  const config = scaleTokenizerConfigOf(weights, 'plain');
  const half = tower([128, 128, 256, 256, 512], { latentChannels: 256 });
  expect(config).toMatchObject({ encoder: half, decoder: half, codebookSize: 8912, codeDim: 32 });
  expectSame(scaleTokenizerParameters(config), weights, ['quantize.codebook_used']);
});

test.each([
  { file: 'var_d16.pth', positions: 'table', vocabularySize: 4096 },
  { file: 'FlexVARd16-epo179.pth', positions: 'area', vocabularySize: 8912 },
])('VAR and FlexVAR, $file', ({ file, positions, vocabularySize }) => {
  const weights = weightsOf(file);
  const config = scaleTransformerConfigOf(weights, SCALES_256);
  expect(config).toMatchObject({ positions, vocabularySize, depth: 16, dim: 1024, heads: 16, classes: 1000 });
  expect(config).toMatchObject({ hiddenDim: 4096, isShared: false, isNormalised: true });
  expectSame(scaleTransformerParameters(config), weights, ignoredScaleWeights(config));
});

test('a block of VAR-d36, whose modulation is shared', () => {
  const block = new Map(
    [...weightsOf('a block of var_d36.pth, 72 wide')].map(([name, weight]) => [`blocks.0.${name}`, weight]),
  );
  const sizes = { depth: 1, dim: 72, heads: 2, hiddenDim: 288, vocabularySize: 16, codeDim: 4, classes: 3 };
  const config = {
    ...{ ...sizes, scales: parseScales([1, 2]), isShared: true, isNormalised: true, normEpsilon: 1e-6 },
    positions: 'table' as const,
  };
  const specs = scaleTransformerParameters(config).filter(({ name }) => name.startsWith('blocks.'));
  expectSame(specs, block, ignoredScaleWeights(config));
});
