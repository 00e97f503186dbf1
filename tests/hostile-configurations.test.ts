import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ErrorCode } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import { openModel } from 'detailflow';
import { describe, expect, test } from 'vitest';
import { refusal } from '../packages/checkpoint/src/test-files';
import { cli, testFolder } from './cli';
import { arConfig, bundle, card, changed, official, tokenizerConfig, weightsFile } from './hostile-model';
import { refused } from './refused';

const at = testFolder();

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
