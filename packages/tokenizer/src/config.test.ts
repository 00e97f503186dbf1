import { readFileSync } from 'node:fs';
import type { Weight, Weights } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { officialTokenizerConfig, parseTokenizerConfig, type TokenizerConfig } from './config';
import { ignoredTokenizerWeights, tokenizerParameters } from './parameters';

const fixture = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../../tests/fixtures/golden/${name}`, import.meta.url), 'utf8'));

/** Names and shapes of a checkpoint, without its numbers. */
const shapesOnly = (keys: Record<string, [string, number[]]>): Weights =>
  new Map(
    Object.entries(keys).map(([name, [, shape]]): [string, Weight] => [
      name,
      { name, dtype: 'f32', shape, read: () => Promise.reject(new Error('never read')) },
    ]),
  );

/** The weights with a decoder of another width. */
const withDecoderWidth = (width: number): Weights => {
  const resize = ([name, weight]: [string, Weight]): [string, Weight] => {
    const shape = weight.shape.map((extent) => (extent === 1152 ? width : extent));
    return [name, name.startsWith('decoder.') ? { ...weight, shape } : weight];
  };
  return new Map([...weights].map(resize));
};

const keys = fixture('official_keys.json').tokenizer_128_tokens;
const weights = shapesOnly(keys);
const official = {
  ...fixture('A/tokenizer/config.json'),
  image_size: 256,
  max_image_size: 256,
  codebook_size: 8192,
  num_latent_tokens: 128,
  group_size: 8,
};

test('what the official recipe of DetailFlow-16 builds is read from config.json and weights', () => {
  const config = officialTokenizerConfig({ config: official, weights });
  const tower = { width: 1152, heads: 16, mlpWidth: 4304, patchSize: 16, positionGrid: 16 };
  expect(config).toEqual({
    imageSize: 256,
    tokens: 128,
    groupSize: 8,
    causalTokens: 8,
    codebookSize: 8192,
    codebookDim: 8,
    encoder: { ...tower, layers: 27 },
    decoder: { ...tower, layers: 12 },
    causalEncoder: true,
    causalDecoder: false,
    correction: true,
    resolutionPower: 1.5,
  });
});

test('its parameters are those of the official state dict, but for what only training needs', () => {
  const config = officialTokenizerConfig({ config: official, weights });
  const expected = Object.entries<[string, number[]]>(keys)
    .map(([name, [, shape]]) => ({ name, shape }))
    .filter(
      ({ name }) =>
        !ignoredTokenizerWeights.some(
          (rule) => name === rule || (rule.endsWith('.') && name.startsWith(rule)),
        ),
    );
  const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
  expect(tokenizerParameters(config).sort(byName)).toEqual(expected.sort(byName));
  expect(expected.length).toBeLessThan(Object.keys(keys).length); // something was there to be ignored
});

test.each([
  [1152, 16],
  [768, 12],
])('a tower %i wide has %i heads', (width, heads) => {
  const { decoder } = officialTokenizerConfig({ config: official, weights: withDecoderWidth(width) });
  expect(decoder).toMatchObject({ width, heads });
});

describe('what the files say counts', () => {
  const read = (config: object, rest: Partial<Parameters<typeof officialTokenizerConfig>[0]> = {}) =>
    officialTokenizerConfig({ config: { ...official, ...config }, weights, ...rest });

  test.each<[string, () => TokenizerConfig, Partial<TokenizerConfig>]>([
    ['causal_num', () => read({ causal_num: 16 }), { causalTokens: 16, groupSize: 8 }],
    ['no causal tokens', () => read({ causal_num: 0 }), { causalTokens: 0, groupSize: 8 }],
    ['causal_num of null', () => read({ causal_num: null }), { causalTokens: 8, groupSize: 8 }],
    ['no max_image_size', () => read({ max_image_size: null, image_size: 512 }), { imageSize: 512 }],
    ['causal_encoder', () => read({ causal_encoder: false }), { causalEncoder: false }],
    ['causal_decoder', () => read({ causal_decoder: true }), { causalDecoder: true }],
    [
      'degradation_power of config.yaml',
      () => read({}, { args: { degradation_power: 2 } }),
      { resolutionPower: 2 },
    ],
    ['codebook_l2_norm', () => read({ codebook_l2_norm: false }), { normalisedCodebook: false }],
    ['an empty config.yaml', () => read({}, { args: null }), { resolutionPower: 1.5 }],
  ])('%s', (_, config, expected) => {
    expect(config()).toMatchObject(expected);
  });

  test('siglip2_vision.json has the last word on head counts', () => {
    const vision = { encoder: { num_attention_heads: 8 }, decoder: { num_attention_heads: 6 } };
    expect(read({}, { vision })).toMatchObject({ encoder: { heads: 8 }, decoder: { heads: 6 } });
  });

  test('a checkpoint without refine_conv has no self-correction', () => {
    const without = new Map([...weights].filter(([name]) => !name.startsWith('refine_conv')));
    expect(officialTokenizerConfig({ config: official, weights: without }).correction).toBe(false);
  });
});

describe('impossible values are refused with file and entry', () => {
  const file = 'model/config.json';

  test.each<[string, unknown]>([
    ['num_latent_tokens', 0],
    ['num_latent_tokens', undefined],
    ['max_image_size', 256.5],
    ['group_size', -8],
    ['group_size', '8'],
    ['causal_num', -8],
    ['codebook_size', 2 ** 40],
    ['codebook_embed_dim', null],
    ['enc_patch_size', 0],
    ['dec_patch_size', Number.NaN],
    ['causal_encoder', 1],
    ['causal_decoder', 'no'],
  ])('%s: %s', (entry, value) => {
    expect(() => officialTokenizerConfig({ config: { ...official, [entry]: value }, weights, file })).toThrow(
      expect.objectContaining({
        code: 'config',
        file,
        entry,
        message: expect.stringContaining(`${file}: ${entry}: is ${shown(value)}`),
      }),
    );
  });

  test.each<[string, unknown]>([
    ['enc_type', 'cnn'],
    ['num_codebooks', 4],
  ])('%s: %s is another kind of tokenizer', (entry, value) => {
    expect(() => officialTokenizerConfig({ config: { ...official, [entry]: value }, weights, file })).toThrow(
      expect.objectContaining({ code: 'unsupported', file, entry }),
    );
  });

  test('mixtures are of unit vectors', () => {
    const mixture = { temperature: 0.1 };
    const config = { ...officialTokenizerConfig({ config: official, weights }), mixture, correction: false };
    expect(parseTokenizerConfig(config, file)).toMatchObject({ mixture });
    expect(() => parseTokenizerConfig({ ...config, normalisedCodebook: false }, file)).toThrow(
      expect.objectContaining({ code: 'config', file, entry: 'normalisedCodebook' }),
    );
  });

  test.each([{ num_latent_tokens: 130 }, { causal_num: 12 }, { causal_num: 136 }])(
    '%o does not come out even',
    (change) => {
      expect(() => officialTokenizerConfig({ config: { ...official, ...change }, weights, file })).toThrow(
        expect.objectContaining({
          code: 'config',
          file,
          message: expect.stringContaining('multiples of groupSize (8)'),
        }),
      );
    },
  );

  test('values of the other files are named with those', () => {
    const read = (rest: object) => () =>
      officialTokenizerConfig({ config: official, weights, file, ...rest });
    expect(read({ args: { degradation_power: -1 } })).toThrow(
      expect.objectContaining({ code: 'config', file: 'model/config.yaml', entry: 'degradation_power' }),
    );
    expect(read({ vision: { encoder: { num_attention_heads: 0 } } })).toThrow(
      expect.objectContaining({
        code: 'config',
        file: 'model/siglip2_vision.json',
        entry: 'encoder.num_attention_heads',
      }),
    );
    expect(read({ vision: { decoder: {} } })).toThrow(
      expect.objectContaining({
        code: 'config',
        message: expect.stringContaining('siglip2_vision.json: encoder'),
      }),
    );
    expect(
      read({ vision: { encoder: { num_attention_heads: 7 }, decoder: { num_attention_heads: 12 } } }),
    ).toThrow(
      expect.objectContaining({ code: 'config', entry: 'encoder', message: expect.stringContaining('1152') }),
    );
  });

  test.each([null, [], 'text', 7])('%o is no configuration', (value) => {
    expect(() => officialTokenizerConfig({ config: value, weights, file })).toThrow(
      expect.objectContaining({ code: 'config', file }),
    );
  });

  test('a width whose heads no file tells asks for siglip2_vision.json', () => {
    const narrow = withDecoderWidth(512);
    expect(() => officialTokenizerConfig({ config: official, weights: narrow, file })).toThrow(
      expect.objectContaining({
        code: 'config',
        file,
        message: expect.stringMatching(/decoder is 512 wide.+siglip2_vision\.json.+"num_attention_heads"/s),
      }),
    );
  });

  test('a weight that the sizes are read off is named when it is missing', () => {
    const name = 'encoder.visual_model.embeddings.position_embedding.weight';
    const without = new Map([...weights].filter(([key]) => key !== name));
    expect(() => officialTokenizerConfig({ config: official, weights: without, file })).toThrow(
      expect.objectContaining({ code: 'weights', entry: name }),
    );
  });

  test('a position table that is no square', () => {
    const name = 'decoder.visual_model.embeddings.position_embedding.weight';
    const odd = new Map(weights).set(name, { ...weights.get(name)!, shape: [250, 768] });
    expect(() => officialTokenizerConfig({ config: official, weights: odd, file })).toThrow(
      expect.objectContaining({ code: 'config', entry: 'decoder', message: expect.stringContaining('250') }),
    );
  });
});

test('our own form is read back as written, and refused field by field', () => {
  const config = officialTokenizerConfig({ config: official, weights });
  expect(parseTokenizerConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  const broken: [string, object][] = [
    ['tokens', { tokens: -1 }],
    ['decoder.mlpWidth', { decoder: { ...config.decoder, mlpWidth: 'wide' } }],
    ['correction', { correction: undefined }],
    ['resolutionPower', { resolutionPower: 0 }],
  ];
  for (const [entry, change] of broken) {
    expect(() => parseTokenizerConfig({ ...config, ...change }, 'config.json')).toThrow(
      expect.objectContaining({ code: 'config', file: 'config.json', entry }),
    );
  }
});

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'missing';
  return typeof value === 'number' ? `${value}` : JSON.stringify(value);
}
