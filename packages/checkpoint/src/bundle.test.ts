import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesSource, DetailFlowError, readFloat32, type Weight, weightFromArray } from '@detailflow/core';
import { float16Bits } from '@detailflow/core/rounded-weight';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readBundle } from './bundle';

import { fileTree } from './file-tree';
import { openFile, openFolder } from './node-files';
import { readOfficialFolder } from './official-folder';
import { goldenPath, refusal, utf8 } from './test-files';
import { type BundleContents, writeBundle } from './write-bundle';

let folder: string;
let target: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'detailflow-'));
  target = join(folder, 'bundle');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const weight = (name: string, read: () => Promise<Uint8Array>, extent = 2): Weight => ({
  name,
  dtype: 'f32',
  shape: [extent],
  read,
});
const contents = (...more: Weight[]): BundleContents => {
  const weights = [weightFromArray('a', [2, 1], Float32Array.of(1, -2.5)), ...more];
  return {
    name: 'Test',
    license: 'CC0-1.0',
    tokenizer: { config: { size: 8 }, weights: new Map(weights.map((item) => [item.name, item])) },
  };
};
const second = () => ({ ...contents(), name: 'Second' });
const nameAt = (path: string) => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).name;

test('an official checkpoint becomes a bundle with the same values', async () => {
  const kinds = ['tokenizer', 'ar'] as const;
  const [tokenizer, ar] = await Promise.all(
    kinds.map(async (kind) =>
      readOfficialFolder(await openFolder(goldenPath(`A/${kind}`)), kind, { key: 'model' }),
    ),
  );
  const done: number[] = [];
  const card = await writeBundle(
    target,
    { ...contents(), tokenizer, ar, classNames: ['cat', 'dog'], recipe: { cfg: 1.5 } },
    { onProgress: (progress) => done.push(progress.done / progress.total) },
  );
  expect(done.at(-1)).toBe(1);
  const bundle = await readBundle(await openFolder(target));
  try {
    expect(bundle.card).toEqual(card);
    expect(card).toMatchObject({
      classNames: ['cat', 'dog'],
      recipe: { cfg: 1.5 },
      ar: { config: ar.config },
    });
    for (const [before, after] of [
      [tokenizer.weights, bundle.tokenizer],
      [ar.weights, bundle.ar!],
    ]) {
      expect([...after.keys()]).toEqual([...before.keys()]);
      for (const [name, { dtype, location }] of after) {
        expect(dtype).toBe('f32');
        expect(location?.path).toMatch(/bundle\/(tokenizer|ar)\.safetensors$/);
        expect(await readFloat32(after.get(name)!)).toEqual(await readFloat32(before.get(name)!));
      }
    }
  } finally {
    await Promise.all([bundle, tokenizer, ar].map((opened) => opened.close()));
  }
  expect(readdirSync(folder)).toEqual(['bundle']);
});

test('f16 storage rounds to nearest, keeps integers, and refuses what does not fit', async () => {
  const whole: Weight = { ...weight('i', async () => new Uint8Array(16)), dtype: 'i64' };
  const fine = weightFromArray('f', [3], Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519));
  await writeBundle(target, contents(whole, fine), { dtype: 'f16' });
  const bundle = await readBundle(await openFolder(target));
  expect([...bundle.tokenizer.values()].map(({ dtype }) => dtype)).toEqual(['f16', 'i64', 'f16']);
  expect([...(await readFloat32(bundle.tokenizer.get('f')!))]).toEqual([1, 1 + 2 ** -9, 65504]);
  await bundle.close();
  const large = contents(weightFromArray('g', [1], Float32Array.of(65520)));
  const error = await refusal(() => writeBundle(join(folder, 'other'), large, { dtype: 'f16' }));
  expect(error).toMatchObject({ code: 'weights', entry: 'g' });
  expect(readdirSync(folder)).toEqual(['bundle']);
});

test('float16Bits agrees with the reading of every half, and rounds ties to even', async () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const read = async () => new Uint8Array(bits.buffer).slice();
  const values = await readFloat32({ name: 'all', dtype: 'f16', shape: [65536], read });
  const wrong: number[] = [];
  const check = (value: number, half: number, i: number) => {
    if (float16Bits(value) !== half) wrong.push(i);
  };
  for (let i = 0; i < 65536; i++) {
    check(values[i], Number.isNaN(values[i]) ? (i & 0x8000) | 0x7e00 : i, i);
    const next = values[i + 1];
    if ((i & 0x7fff) >= 0x7bff) continue;
    check((values[i] + next) / 2, i % 2 === 0 ? i : i + 1, i);
    check(values[i] + (next - values[i]) * 0.49, i, i);
    check(values[i] + (next - values[i]) * 0.51, i + 1, i);
  }
  expect(wrong.filter((i) => !Number.isNaN(values[i]))).toEqual([]);
  expect(float16Bits(Number.NaN) & 0x7fff).toBe(0x7e00);
  expect(float16Bits(2 ** -60)).toBe(0);
  expect(float16Bits(-Infinity)).toBe(0xfc00);
});

test('f64 is narrowed, unless it does not fit', async () => {
  const f64 = (value: number): Weight => ({
    ...weight('d', async () => new Uint8Array(Float64Array.of(value).buffer), 1),
    dtype: 'f64',
  });
  await writeBundle(target, contents(f64(Math.PI)));
  const bundle = await readBundle(await openFolder(target));
  expect([...(await readFloat32(bundle.tokenizer.get('d')!))]).toEqual([Math.fround(Math.PI)]);
  await bundle.close();
  const error = await refusal(() => writeBundle(join(folder, 'x'), contents(f64(1e300))));
  expect(error).toMatchObject({ code: 'weights', entry: 'd' });
});

test('large weights are written in bounded pieces', async () => {
  const steps: number[] = [];
  let last = 0;
  const big = weight('big', async () => new Uint8Array(20_000_000).fill(63), 5_000_000);
  await writeBundle(target, contents(big), {
    onProgress: ({ done }) => {
      steps.push(done - last);
      last = done;
    },
  });
  expect(Math.max(...steps)).toBe(4 * 2 ** 20);
  const bundle = await readBundle(await openFolder(target));
  expect(Buffer.alloc(20_000_000, 63).equals(await bundle.tokenizer.get('big')!.read())).toBe(true);
  await bundle.close();
});

test('a failing weight leaves nothing behind and keeps what was there', async () => {
  await writeBundle(target, contents());
  const failing = contents(
    weight('bad', async () => {
      expect(readdirSync(folder).length).toBe(2);
      throw new Error('the disk broke');
    }),
  );
  const error = await refusal(() => writeBundle(target, failing, { overwrite: true }));
  expect(error).toMatchObject({ code: 'io', file: target });
  expect(error.message).toMatch(/the disk broke/);
  const short = contents(weight('short', async () => new Uint8Array(7)));
  const shortError = await refusal(() => writeBundle(target, short, { overwrite: true }));
  expect(shortError).toMatchObject({ code: 'weights', entry: 'short' });
  const typed = contents(weight('t', async () => Promise.reject(new DetailFlowError('closed', 'gone'))));
  expect((await refusal(() => writeBundle(join(folder, 'new'), typed))).code).toBe('closed');
  expect(readdirSync(folder)).toEqual(['bundle']);
  expect(nameAt(target)).toBe('Test');
});

test('an abort at any point leaves nothing behind and keeps what was there', async () => {
  await writeBundle(target, contents());
  for (let point = 0; point < 4; point++) {
    const abort = new AbortController();
    let passed = 0;
    const stop = () => {
      if (passed++ === point) abort.abort();
    };
    if (point === 3) abort.abort(new Error('before'));
    const slow = weight('slow', async () => {
      stop();
      return new Uint8Array(8);
    });
    const options = { overwrite: true, signal: abort.signal, onProgress: stop };
    const thrown = await writeBundle(target, contents(slow), options).catch((reason: unknown) => reason);
    expect(abort.signal.aborted).toBe(true);
    expect(thrown).toBe(abort.signal.reason);
    expect(readdirSync(folder)).toEqual(['bundle']);
    expect(nameAt(target)).toBe('Test');
  }
});

test('replaces a bundle only when told to', async () => {
  await writeBundle(target, contents());
  const error = await refusal(() => writeBundle(target, second()));
  expect(error).toMatchObject({ code: 'io', file: target });
  expect(error.message).toMatch(/exists already.*overwrite/);
  expect(nameAt(target)).toBe('Test');
  await writeBundle(target, second(), { overwrite: true });
  expect(nameAt(target)).toBe('Second');
  await writeBundle(join(folder, 'fresh'), second(), { overwrite: true });
  expect(readdirSync(folder).sort()).toEqual(['bundle', 'fresh']);
});

test('a bundle may be rewritten from itself', async () => {
  await writeBundle(target, contents());
  const bundle = await readBundle(await openFolder(target));
  const half = { ...contents(), tokenizer: { config: {}, weights: bundle.tokenizer } };
  await writeBundle(target, half, { overwrite: true, dtype: 'f16' });
  await bundle.close();
  const again = await readBundle(await openFolder(target));
  expect([...(await readFloat32(again.tokenizer.get('a')!))]).toEqual([1, -2.5]);
  await again.close();
});

test('overwrite never replaces anything but a bundle', async () => {
  const setups: [RegExp, (path: string) => void][] = [
    [/holds "notes\.txt"/, (path) => writeFileSync(join(mkdirp(path), 'notes.txt'), 'mine')],
    [/no card/, (path) => mkdirp(path)],
    [/no card/, (path) => writeFileSync(join(mkdirp(path), 'config.json'), '{"model":1}')],
    [/no folder/, (path) => writeFileSync(path, 'mine')],
    [/no folder/, (path) => symlinkSync(mkdirp(`${path}-real`), path)],
  ];
  for (const [i, [message, make]] of setups.entries()) {
    const path = join(folder, `target${i}`);
    make(path);
    const before = readdirSync(folder);
    const error = await refusal(() => writeBundle(path, contents(), { overwrite: true }));
    expect(error.message).toMatch(message);
    expect(readdirSync(folder)).toEqual(before);
  }
  function mkdirp(path: string): string {
    mkdirSync(path, { recursive: true });
    return path;
  }
});

test.each([false, true])('a bundle that appears meanwhile wins (overwrite: %s)', async (overwrite) => {
  const late = contents(
    weight('late', async () => {
      if (!existsSync(target)) mkdirSync(target);
      writeFileSync(join(target, 'theirs'), 'x');
      return new Uint8Array(8);
    }),
  );
  const error = await refusal(() => writeBundle(target, late, { overwrite }));
  expect(error).toMatchObject({ code: 'io', file: target });
  expect(readdirSync(folder)).toEqual(['bundle']);
  expect(readdirSync(target)).toEqual(['theirs']);
});

test('two writers: exactly one wins, the other is told', async () => {
  const results = await Promise.allSettled([writeBundle(target, contents()), writeBundle(target, second())]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const lost = results.find((result) => result.status === 'rejected') as PromiseRejectedResult;
  expect(DetailFlowError.isInstance(lost.reason)).toBe(true);
  expect(readdirSync(folder)).toEqual(['bundle']);
  await (await readBundle(await openFolder(target))).close();
});

test('refuses a place that is not there, and cards and names that cannot be read again', async () => {
  const deep = await refusal(() => writeBundle(join(folder, 'no', 'bundle'), contents()));
  expect(deep).toMatchObject({ code: 'io' });
  const endless: Record<string, unknown> = {};
  endless.self = endless;
  const faults: [Partial<BundleContents>, string][] = [
    [{ name: '' }, 'format'],
    [{ license: undefined as never }, 'format'],
    [{ classNames: [1 as never] }, 'format'],
    [{ description: 'x'.repeat(2_000_000) }, 'limit'],
    [{ recipe: endless }, 'invalid-argument'],
    [{ tokenizer: { config: [] as never, weights: new Map() } }, 'format'],
    [
      {
        tokenizer: {
          config: {},
          weights: new Map([['__metadata__', contents().tokenizer.weights.get('a')!]]),
        },
      },
      'invalid-argument',
    ],
  ];
  for (const [change, code] of faults) {
    expect((await refusal(() => writeBundle(target, { ...contents(), ...change }))).code).toBe(code);
  }
  expect(readdirSync(folder)).toEqual([]);
});

const card = {
  format: 'detailflow',
  version: 1,
  name: 'n',
  license: 'MIT',
  tokenizer: { config: {}, weights: 'tokenizer.safetensors' },
};
const part = (weights: string) => ({ config: {}, weights });

test.each([
  ['another format', { ...card, format: 'other' }, 'format', 'format'],
  ['a later version', { ...card, version: 2 }, 'unsupported', 'version'],
  ['no licence', { ...card, license: undefined }, 'format', 'license'],
  ['a name that is a number', { ...card, name: 1 }, 'format', 'name'],
  ['no tokenizer', { ...card, tokenizer: undefined }, 'format', 'tokenizer'],
  ['weights elsewhere', { ...card, tokenizer: part('../../etc/passwd') }, 'format', 'tokenizer.weights'],
  ['AR weights elsewhere', { ...card, ar: part('tokenizer.safetensors') }, 'format', 'ar.weights'],
  [
    'no tokenizer config',
    { ...card, tokenizer: { ...card.tokenizer, config: 1 } },
    'format',
    'tokenizer.config',
  ],
  ['class names that are no list', { ...card, classNames: 'cat' }, 'format', 'classNames'],
  ['a recipe that is a list', { ...card, recipe: [] }, 'format', 'recipe'],
])('refuses a card with %s', async (_, value, code, entry) => {
  const files = new Map([['config.json', bytesSource(utf8(JSON.stringify(value)))]]);
  const error = await refusal(() => readBundle(fileTree('folder', files)));
  expect(error).toMatchObject({ code, entry, file: 'folder/config.json' });
});

test('a bundle without its weights is refused, and closes what it opened', async () => {
  let closed = 0;
  const source = {
    ...bytesSource(utf8('not safetensors'), 'tokenizer.safetensors'),
    close: async () => void closed++,
  };
  const config = bytesSource(utf8(JSON.stringify(card)));
  const broken = fileTree(
    'folder',
    new Map([
      ['config.json', config],
      ['tokenizer.safetensors', source],
    ]),
  );
  expect((await refusal(() => readBundle(broken))).code).toBe('format');
  expect(closed).toBe(1);
  expect((await refusal(() => readBundle(fileTree('f', new Map([['config.json', config]]))))).code).toBe(
    'io',
  );
  expect((await refusal(() => readBundle(fileTree('f', new Map())))).code).toBe('io');
});

test('files: ranges, folders and changes underneath are refused', async () => {
  const path = join(folder, 'file');
  writeFileSync(path, 'abcdef');
  const file = await openFile(path);
  expect([...(await file.read(1, 3))]).toEqual([98, 99, 100]);
  expect((await file.read(6, 0)).length).toBe(0);
  for (const [offset, length] of [
    [4, 3],
    [-1, 2],
    [0, -1],
    [0.5, 1],
    [0, Number.MAX_VALUE],
  ]) {
    expect((await refusal(() => file.read(offset, length))).code).toBe('io');
  }
  writeFileSync(path, 'abc');
  expect((await refusal(() => file.read(0, 6))).message).toMatch(/ends at 3, but had 6/);
  await file.close();
  await file.close();
  expect((await refusal(() => openFile(folder))).message).toMatch(/not a regular file/);
  expect((await refusal(() => openFile(join(folder, 'none')))).message).toMatch(/no such file/);
  expect((await refusal(() => openFolder(path))).message).toMatch(/not a folder/);
  expect((await refusal(() => openFolder(join(folder, 'none')))).code).toBe('io');
});
