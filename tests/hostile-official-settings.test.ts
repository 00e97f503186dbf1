import { DetailFlowError, type ErrorCode } from '@detailflow/core';
import { openModel } from 'detailflow';
import { describe, expect, test } from 'vitest';
import { official, officialConfig } from './hostile-model';
import { refused } from './refused';

describe('settings of official tokenizers', () => {
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
