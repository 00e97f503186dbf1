import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { tokenModelParameters } from '@detailflow/ar-model';
import { fileTree } from '@detailflow/checkpoint';
import {
  bytesSource,
  DetailFlowError,
  type ErrorCode,
  type ParameterSpec,
  pictureFromPixels,
  readSafetensors,
  Tensor,
  type TokenModel,
} from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { sampleTokens } from '@detailflow/sampler';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import { openModel } from 'detailflow';
import { describe, expect, test } from 'vitest';
import { concat, refusal, utf8 } from '../packages/checkpoint/src/test-files';
import { cli, testFolder } from './cli';
import { refused, withLength } from './refused';

const at = testFolder();

// Configurations and weights of strangers: strange values are refused where the model is opened, before they cost
// time or memory, and weights that are not finite end in an error and not in a picture.

const tower = { width: 4, heads: 2, layers: 1, mlpWidth: 4, patchSize: 2, positionGrid: 2 };
const tokenizerConfig = {
  imageSize: 8,
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  codebookSize: 4,
  codebookDim: 2,
  encoder: tower,
  decoder: tower,
  causalEncoder: true,
  causalDecoder: false,
  correction: false,
  resolutionPower: 1.5,
};
const arConfig = {
  tokens: 4,
  groupSize: 2,
  causalTokens: 2,
  vocabularySize: 4,
  classes: 2,
  dim: 8,
  layers: 1,
  heads: 2,
  kvHeads: 2,
  hiddenDim: 8,
  ropeBase: 10000,
  normEpsilon: 1e-5,
};

/** A safetensors file of weights of one value. */
function weightsFile(specs: readonly ParameterSpec[], value = 0.1): Uint8Array {
  let at = 0;
  const entries = specs.map(({ name, shape }) => {
    const begin = at;
    at += 4 * shape.reduce((a, b) => a * b, 1);
    return [name, { dtype: 'F32', shape, data_offsets: [begin, at] }];
  });
  const header = utf8(JSON.stringify(Object.fromEntries(entries)));
  return concat(withLength(header), new Uint8Array(new Float32Array(at / 4).fill(value).buffer));
}

const card = {
  format: 'detailflow',
  version: 1,
  name: 'x',
  license: 'MIT',
  tokenizer: { config: tokenizerConfig, weights: 'tokenizer.safetensors' },
  ar: { config: arConfig, weights: 'ar.safetensors' },
};

const memoryTree = (files: Record<string, Uint8Array | string>) =>
  fileTree(
    'model',
    new Map(
      Object.entries(files).map(([name, bytes]) => [
        name,
        bytesSource(typeof bytes === 'string' ? utf8(bytes) : bytes, `model/${name}`),
      ]),
    ),
  );

const bundle = (config: string) =>
  memoryTree({
    'config.json': config,
    'tokenizer.safetensors': weightsFile(tokenizerParameters(tokenizerConfig)),
    'ar.safetensors': weightsFile(tokenModelParameters(arConfig)),
  });

/** The card with a piece of its JSON replaced. */
const changed = (from: string, to: string) => {
  const text = JSON.stringify(card);
  expect(text).toContain(from);
  return text.replace(from, () => to);
};

const officialConfig = {
  max_image_size: 8,
  codebook_size: 4,
  codebook_embed_dim: 2,
  num_latent_tokens: 4,
  enc_patch_size: 2,
  dec_patch_size: 2,
  group_size: 2,
};
const official = (yaml: string, config: object = officialConfig) =>
  memoryTree({
    'tokenizer/config.json': JSON.stringify(config),
    'tokenizer/config.yaml': yaml,
    'tokenizer/siglip2_vision.json': JSON.stringify({
      encoder: { num_attention_heads: 2 },
      decoder: { num_attention_heads: 2 },
    }),
    'tokenizer/model.safetensors': weightsFile(tokenizerParameters(tokenizerConfig)),
  });

describe('configurations', () => {
  test('the model that the attacks start from opens', async () => {
    expect((await openModel(bundle(JSON.stringify(card)))).ar?.config).toEqual(arConfig);
    expect((await openModel(official('degradation_power: 1.5'))).tokenizer.config).toEqual(tokenizerConfig);
  });

  const numbers = [
    '-1',
    '0',
    '1.5',
    '1e308',
    '1e309',
    '"4"',
    'null',
    '[]',
    '{}',
    'true',
    '9007199254740993',
    '1048577',
  ];
  const fields = [
    'imageSize',
    'tokens',
    'groupSize',
    'codebookSize',
    'vocabularySize',
    'dim',
    'layers',
    'heads',
    'patchSize',
    'positionGrid',
    'width',
  ];
  test.each(fields)('%s of strange kinds', async (field) => {
    const [found] = JSON.stringify(card).match(new RegExp(`"${field}":\\d+`)) as RegExpMatchArray;
    for (const value of numbers) {
      const error = await refusal(() => openModel(bundle(changed(found, `"${field}":${value}`))));
      expect(['config', 'weights'], `${field}: ${value}`).toContain(error.code);
      expect(error.file).toBeDefined();
    }
  });

  test.each(['resolutionPower', 'ropeBase', 'normEpsilon'])('%s of strange kinds', async (field) => {
    const [found] = JSON.stringify(card).match(new RegExp(`"${field}":[\\de.-]+`)) as RegExpMatchArray;
    for (const value of ['-1', '0', '"1"', 'null', '1e309', '-1e309', '[1]']) {
      await refused(
        () => openModel(bundle(changed(found, `"${field}":${value}`))),
        'config',
        new RegExp(field),
      );
    }
  });

  const claims: [string, string, string, RegExp][] = [
    ['2^20 layers of a tower', '"layers":1', '"layers":1048576', /1048576 layers/],
    ['2^24 layers of an AR model', '"dim":8,"layers":1', '"dim":8,"layers":16777216', /16777216 layers/],
    ['an image of 2^20 pixels', '"imageSize":8', '"imageSize":1048576', /places/],
    ['an image of 65 536 pixels', '"imageSize":8', '"imageSize":65536', /places/],
    ['2^20 tokens', '"tokens":4', '"tokens":1048576', /places/],
    [
      '2^24 tokens of an AR model',
      '"ar":{"config":{"tokens":4',
      '"ar":{"config":{"tokens":16777216',
      /tokens/,
    ],
    ['tokens that are no multiple', '"tokens":4', '"tokens":5', /multiples/],
    ['more causal tokens than tokens', '"causalTokens":2', '"causalTokens":6', /at most tokens/],
    ['a power beyond float64', '"resolutionPower":1.5', '"resolutionPower":1e308', /resolutionPower/],
    ['heads that do not divide', '"width":4,"heads":2', '"width":4,"heads":3', /heads/],
  ];
  test.each(claims)('%s: refused before it takes memory', async (_, from, to, message) => {
    const tree = bundle(changed(from, to));
    const before = process.memoryUsage();
    await refused(() => openModel(tree), 'config', message);
    const after = process.memoryUsage();
    expect((after.rss - before.rss) / 2 ** 20, 'MB more').toBeLessThan(50);
    expect((after.arrayBuffers - before.arrayBuffers) / 2 ** 20).toBeLessThan(50);
  });

  test('the longest sequences that are possible open', async () => {
    const model = await openModel(bundle(changed('"imageSize":8', '"imageSize":254')));
    const { resolutions } = createTokenizer({ ...model.tokenizer, backend: createReferenceBackend() });
    expect(resolutions.tokenToDecOutRes(4)).toBe(254);
  });

  test('keys of prototypes change nothing', async () => {
    const poisoned = changed(
      '"imageSize":8',
      '"__proto__":{"polluted":1,"imageSize":4},"constructor":{"prototype":{"polluted":1}},"imageSize":8',
    );
    expect((await openModel(bundle(poisoned))).tokenizer.config).toEqual(tokenizerConfig);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    const inherited = changed('"imageSize":8', '"__proto__":{"imageSize":8}');
    await refused(() => openModel(bundle(inherited)), 'config', /imageSize/);
  });

  const sizes: [string, string, ErrorCode][] = [
    ['a megabyte of spaces', `${' '.repeat(1_000_000)}{}`, 'limit'],
    ['half a million levels', `{"a":${'['.repeat(490_000)}${']'.repeat(490_000)}}`, 'limit'],
    ['half a million values', `{"a":[${'1,'.repeat(490_000)}1]}`, 'limit'],
    ['levels that do not end', '{"a":'.repeat(190_000), 'format'],
    ['NaN', '{"a":NaN}', 'format'],
    ['a byte order mark and nothing', '\ufeff', 'format'],
    ['a list', '[]', 'format'],
    ['null', 'null', 'format'],
    ['a string', '"config"', 'format'],
    ['a later version', changed('"version":1', '"version":2'), 'unsupported'],
    ['a version of a megabyte', changed('"version":1', `"version":"${'9'.repeat(900_000)}"`), 'unsupported'],
    ['weights elsewhere', changed('"ar.safetensors"', '"../../etc/passwd"'), 'format'],
    ['a licence that is a list', changed('"MIT"', '["MIT"]'), 'format'],
    ['class names of numbers', changed('"license"', '"classNames":[1,2],"license"'), 'format'],
  ];
  test.each(sizes)('config.json: %s', (_, text, code) => refused(() => openModel(bundle(text)), code));

  const yaml: [string, string, ErrorCode, RegExp][] = [
    ['.inf', 'degradation_power: .inf', 'config', /Infinity/],
    ['-.inf', 'degradation_power: -.inf', 'config', /Infinity/],
    ['.nan', 'degradation_power: .nan', 'config', /NaN/],
    ['a negative number', 'degradation_power: -1', 'config', /-1/],
    ['1e308', 'degradation_power: 1e308', 'config', /1e\+308/],
    ['a string for a number', 'degradation_power: "1.5"', 'config', /"1\.5"/],
    ['a list for a number', 'degradation_power: [1.5]', 'config', /\[1\.5\]/],
    ['a Python object', 'a: !!python/object/apply:os.system [id]', 'format', /YAML/],
    ['a JavaScript function', 'a: !!js/function "() => 1"', 'format', /YAML/],
    ['a custom tag', 'a: !evil 1', 'format', /YAML/],
    ['duplicate keys', 'a: 1\nb: 2\na: 3', 'format', /unique at line 3, column 1/],
    ['duplicate keys inside', 'x: {a: 1, a: 2}', 'format', /unique/],
    ['keys that are mappings', '? {a: 1}\n: 2', 'format', /YAML/],
    ['an alias that is not there', 'a: *b', 'format', /alias/],
    ['an alias of itself', 'a: &a [*a]', 'limit', /levels/],
    [
      'a billion laughs',
      `a: &a [1,1,1,1,1,1,1,1,1]\n${[...'bcdefghi'].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`)}]`).join('\n')}`,
      'format',
      /alias/i,
    ],
    ['two documents', 'a: 1\n---\nb: 2', 'format', /YAML/],
    ['a list', '- 1', 'format', /one object/],
    ['nothing', '', 'format', /one object/],
    ['tabs', 'a:\n\tb: 1', 'format', /line 2/],
    ['100 levels', `a: ${'['.repeat(100)}${']'.repeat(100)}`, 'limit', /levels/],
    ['20 000 levels', `a: ${'['.repeat(20_000)}`, 'format', /YAML/],
    ['more than 100 kB', `# ${'x'.repeat(100_000)}\na: 1`, 'limit', /100000/],
  ];
  test.each(yaml)('config.yaml: %s', (_, text, code, message) =>
    refused(() => openModel(official(text)), code, message),
  );

  const many = (length: number, one: (i: number) => string) => Array.from({ length }, (_, i) => one(i));
  const slow: [string, (size: number) => string][] = [
    ['keys', (size) => many(size / 9, (i) => `k${i}: 1`).join('\n')],
    ['keys in one line', (size) => `{${many(size / 10, (i) => `k${i}: 1`)}}`],
    ['faults', (size) => '}'.repeat(size)],
    ['commas', (size) => `a: [${','.repeat(size)}`],
    ['anchors', (size) => '&a '.repeat(size / 3)],
    [
      'aliases of many anchors',
      (size) => many(size / 35, (i) => `k${i}: &a${i} 1\nl${i}: *a${i}`).join('\n'),
    ],
  ];
  test.each(slow)('config.yaml: many %s take linear time', async (_, text) => {
    const time = async (size: number) => {
      const begun = process.cpuUsage();
      await openModel(official(text(size))).catch((error) =>
        expect(DetailFlowError.isInstance(error)).toBe(true),
      );
      const { user, system } = process.cpuUsage(begun);
      return user + system;
    };
    const least = async (size: number) => Math.min(await time(size), await time(size), await time(size));
    await time(90_000);
    // Eight times as much: 8 where it is linear, 64 where it is quadratic.
    expect((await least(88_000)) / Math.max(2000, await least(11_000))).toBeLessThan(30);
  });

  test('config.yaml: merge keys and keys of prototypes are plain keys', async () => {
    const text =
      'base: &base {degradation_power: 9}\n<<: *base\n__proto__: {degradation_power: 8, polluted: 1}\nconstructor: {prototype: {polluted: 1}}';
    const { tokenizer } = await openModel(official(text));
    expect(tokenizer.config.resolutionPower).toBe(1.5);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  test.each([
    ['an image size of 1e308', { max_image_size: 1e308 }],
    ['a fractional patch', { enc_patch_size: 0.5 }],
    ['groups of none', { group_size: 0 }],
    ['text for a number', { num_latent_tokens: '4' }],
    ['a huge image', { max_image_size: 2 ** 20 }],
  ])('official config.json: %s', (_, change) =>
    refused(() => openModel(official('a: 1', { ...officialConfig, ...change })), 'config'),
  );
});

test('the command line prints no control characters of a file', async () => {
  const folder = at('escapes');
  mkdirSync(folder);
  const weights = weightsFile([...tokenizerParameters(tokenizerConfig), { name: 'x\u001b[2J', shape: [1] }]);
  writeFileSync(
    path.join(folder, 'config.json'),
    JSON.stringify({ ...card, name: 'x\u001b]0;y\u0007', ar: undefined }),
  );
  writeFileSync(path.join(folder, 'tokenizer.safetensors'), weights);
  const refusedIt = await cli(['inspect', folder]);
  expect(refusedIt.code).toBe(1);
  expect(refusedIt.stderr).toContain('x\\x1b[2J');
  writeFileSync(
    path.join(folder, 'tokenizer.safetensors'),
    weightsFile(tokenizerParameters(tokenizerConfig)),
  );
  const shown = await cli(['inspect', folder]);
  expect(shown).toMatchObject({ code: 0, stdout: expect.stringContaining('x\\x1b]0;y\\x07 (MIT)') });
});

describe('weights that are not finite', () => {
  /** A token model whose logits are given. */
  const model = (logits: readonly number[], disposed: { count: number }): TokenModel => ({
    tokens: 2,
    schedule: [1, 1],
    vocabularySize: logits.length,
    classes: 1,
    unconditional: () => 1,
    dispose: async () => {},
    begin: async (labels) => ({
      position: 0,
      nextCount: 1,
      predict: async () =>
        new Tensor('float32', Float32Array.from(labels.flatMap(() => logits)), [
          labels.length,
          1,
          logits.length,
        ]),
      dispose: async () => {
        disposed.count++;
      },
    }),
  });
  const bad = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

  test.each(
    bad.flatMap((value) => [false, true].flatMap((greedy) => [1, 2].map((cfg) => ({ value, greedy, cfg })))),
  )('the logit $value is refused (greedy: $greedy, cfg $cfg)', async ({ value, greedy, cfg }) => {
    const disposed = { count: 0 };
    const steps = sampleTokens({ model: model([0, 1, value], disposed), labels: [0], greedy, cfg });
    await expect(steps.next()).rejects.toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/AR model gave the logit .* of token 0.*NaN/),
    });
    expect(disposed.count).toBe(1);
  });

  test('a guidance scale that overflows is refused, too', async () => {
    const steps = sampleTokens({ model: model([3e38, 0], { count: 0 }), labels: [0], cfg: 1 });
    expect((await steps.next()).value?.count).toBe(1);
    const apart: TokenModel = {
      ...model([0, 0], { count: 0 }),
      begin: async () => ({
        position: 0,
        nextCount: 1,
        predict: async () => new Tensor('float32', Float32Array.of(3e38, 0, -3e38, 0), [2, 1, 2]),
        dispose: async () => {},
      }),
    };
    await expect(sampleTokens({ model: apart, labels: [0], cfg: 2 }).next()).rejects.toMatchObject({
      code: 'runtime',
    });
  });

  test('they load, make no picture, and never become a code out of range', async () => {
    const specs = tokenizerParameters(tokenizerConfig);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const weights = await readSafetensors(bytesSource(weightsFile(specs, value)));
      const tokenizer = createTokenizer({
        config: tokenizerConfig,
        weights,
        backend: createReferenceBackend(),
      });
      const pixels = await tokenizer.decode(new Tensor('int32', Int32Array.of(0, 1, 2, 3), [1, 4]));
      expect([...(pixels.data as Float32Array)].every(Number.isNaN)).toBe(true);
      expect(() => pictureFromPixels(pixels, 0)).toThrow(
        expect.objectContaining({ code: 'runtime', message: expect.stringMatching(/is NaN/) }),
      );
      const images = new Tensor('float32', new Float32Array(3 * 8 * 8), [1, 3, 8, 8]);
      const codes = (await tokenizer.encode(images)).data as Int32Array;
      expect(codes.every((code) => code >= 0 && code < 4)).toBe(true);
    }
  });
});
