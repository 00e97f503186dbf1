import { readFileSync } from 'node:fs';
import {
  feedForwardWidth,
  gptSizes as presets,
  groupParameters as tokenModelParameters,
} from '@detailflow/blocks';
import { describe, expect, test } from 'vitest';
import {
  officialTokenModelConfig,
  type PresetName,
  parseTokenModelConfig,
  presetConfig,
  toOfficialTokenModelConfig,
} from './config';

const fixture = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../../tests/fixtures/golden/${name}`, import.meta.url), 'utf8'));

const imagenet = { tokens: 128, groupSize: 8, vocabularySize: 8192, classes: 1000 };

const millions = (name: PresetName, sizes = imagenet): number =>
  tokenModelParameters(presetConfig(name, sizes)).reduce(
    (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
    0,
  ) / 1e6;

test('GPT-L for 128 tokens has the parameters of the official state dict', () => {
  const expected = Object.entries<[string, number[]]>(fixture('official_keys.json').gpt_l_128_tokens).map(
    ([name, [, shape]]) => ({ name, shape }),
  );
  const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
  expect(tokenModelParameters(presetConfig('GPT-L', imagenet)).sort(byName)).toEqual(expected.sort(byName));
});

describe('parameter counts', () => {
  test('of the paper, with 8192 codes', () => {
    expect(Math.round(millions('GPT-L'))).toBe(326);
  });

  // LlamaGen, table 1: with 16384 codes.
  test.each<[PresetName, number]>([
    ['GPT-B', 111],
    ['GPT-L', 343],
    ['GPT-XL', 775],
    ['GPT-XXL', 1411],
    ['GPT-3B', 3081],
  ])('of LlamaGen: %s has %iM', (name, expected) => {
    expect(Math.abs(millions(name, { ...imagenet, vocabularySize: 16384 }) / expected - 1)).toBeLessThan(
      0.01,
    );
  });
});

test('every preset makes a configuration', () => {
  for (const name of Object.keys(presets) as PresetName[]) {
    expect(presetConfig(name, imagenet)).toMatchObject({
      ...presets[name],
      causalTokens: 8,
      kvHeads: presets[name].heads,
    });
  }
  expect(presetConfig('GPT-B', { ...imagenet, causalTokens: 16 }).causalTokens).toBe(16);
  expect(() => presetConfig('GPT-2' as PresetName, imagenet)).toThrow(
    expect.objectContaining({ code: 'config', message: expect.stringContaining('GPT-XXXL') }),
  );
});

test.each([
  [768, undefined, undefined, 2048],
  [1024, undefined, undefined, 2816],
  [48, 32, undefined, 128],
  [1024, 256, 1.5, 4096], // trunc(2730 * 1.5) = 4095
  [1024, 1, 1.3, 3549],
])('SwiGLU width of %i, multiple of %s, times %s: %i', (dim, multipleOf, multiplier, expected) => {
  expect(feedForwardWidth(dim, multipleOf, multiplier)).toBe(expected);
});

test('grouped-query attention and groups of one change the parameters', () => {
  const config = { ...presetConfig('GPT-B', imagenet), kvHeads: 4 };
  const shapeOf = (name: string, one = config) =>
    tokenModelParameters(one).find((spec) => spec.name === name)?.shape;
  expect(shapeOf('layers.11.attention.wqkv.weight')).toEqual([768 + 2 * 4 * 64, 768]);
  expect(shapeOf('spe_tok_embeddings.special_embeddings.weight')).toEqual([7, 768]);
  const single = { ...config, groupSize: 1 };
  expect(shapeOf('spe_tok_embeddings.special_embeddings.weight', single)).toBeUndefined();
});

describe('the official config.json', () => {
  const official = { ...fixture('A/ar/config.json'), dim: 1024, n_head: 16, n_layer: 24, multiple_of: 256 };
  const file = 'ar/config.json';

  test('is read', () => {
    const config = { block_size: 128, group_size: 8, vocab_size: 8192, num_classes: 1000 };
    expect(officialTokenModelConfig({ ...official, ...config })).toEqual(presetConfig('GPT-L', imagenet));
    expect(
      officialTokenModelConfig({ ...official, n_kv_head: 4, causal_num: 8, rope_base: 500, norm_eps: 1e-6 }),
    ).toMatchObject({ kvHeads: 4, causalTokens: 8, ropeBase: 500, normEpsilon: 1e-6 });
    expect(officialTokenModelConfig({ ...official, ffn_dim_multiplier: 1.5 }).hiddenDim).toBe(4096);
    const atOnce = officialTokenModelConfig({ ...official, causal_num: 0 });
    expect(atOnce.causalTokens).toBe(0);
    expect(toOfficialTokenModelConfig(atOnce).causal_num).toBe(0);
  });

  test.each<[string, unknown]>([
    ['block_size', 0],
    ['group_size', 2.5],
    ['causal_num', -4],
    ['vocab_size', undefined],
    ['num_classes', '1000'],
    ['dim', 2 ** 30],
    ['n_layer', null],
    ['n_head', 0],
    ['n_kv_head', 0],
    ['multiple_of', 0],
    ['ffn_dim_multiplier', -1],
    ['rope_base', 0],
    ['norm_eps', 'small'],
  ])('%s: %s is refused with file and entry', (entry, value) => {
    expect(() => officialTokenModelConfig({ ...official, [entry]: value }, file)).toThrow(
      expect.objectContaining({
        code: 'config',
        file,
        entry,
        message: expect.stringContaining(`${file}: ${entry}: is ${shown(value)}`),
      }),
    );
  });

  test.each<[string, unknown]>([
    ['model_type', 't2i'],
    ['cls_token_num', 120],
  ])('%s: %s is another kind of model', (entry, value) => {
    expect(() => officialTokenModelConfig({ ...official, [entry]: value }, file)).toThrow(
      expect.objectContaining({ code: 'unsupported', file, entry }),
    );
  });

  test.each([true, false, null, undefined])('a token table that was trained or frozen: %s', (value) => {
    const config = { ...official, learnable_tok_embeddings: value, drop_path_rate: 0.3 };
    expect(officialTokenModelConfig(config, file)).toEqual(officialTokenModelConfig(official, file));
  });

  test.each<[object, string]>([
    [{ block_size: 30 }, 'multiples of groupSize (4)'],
    [{ causal_num: 6 }, 'multiples of groupSize (4)'],
    [{ causal_num: 36 }, 'at most tokens'],
    [{ n_head: 15 }, 'heads (15) times a multiple of 4'],
    [{ dim: 96 }, 'heads (16) times a multiple of 4'], // heads 6 wide: no two pairs for each direction
    [{ n_kv_head: 5 }, 'multiple of kvHeads (5)'],
  ])('%o does not come out even', (change, text) => {
    expect(() => officialTokenModelConfig({ ...official, ...change }, file)).toThrow(
      expect.objectContaining({ code: 'config', file, message: expect.stringContaining(text) }),
    );
  });

  test.each([null, [], 'text'])('%o is no configuration', (value) => {
    expect(() => officialTokenModelConfig(value, file)).toThrow(
      expect.objectContaining({ code: 'config', file }),
    );
  });
});

test('our own form is read back as written, and refused field by field', () => {
  const config = presetConfig('GPT-B', imagenet);
  expect(parseTokenModelConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  for (const entry of Object.keys(config)) {
    expect(() =>
      parseTokenModelConfig({ ...config, [entry]: entry === 'causalTokens' ? -1 : 0 }, 'config.json'),
    ).toThrow(expect.objectContaining({ code: 'config', file: 'config.json', entry }));
  }
});

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'missing';
  return typeof value === 'number' ? `${value}` : JSON.stringify(value);
}
