import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Extractor } from '../extractor';
import { collectFeatures } from '../feature-set';
import { type ImageSource, keptSource } from '../image-source';
import { folderStore } from './folder-store';

const total = 2300;

/** Images of one pixel whose features are their number and its square. */
const extractor: Extractor = {
  name: 'numbers',
  width: 2,
  spatialWidth: 1,
  classes: 3,
  async extract({ data, count }) {
    const values = Array.from({ length: count }, (_, i) => data[3 * i] + 256 * data[3 * i + 1]);
    return {
      pool: Float32Array.from(values.flatMap((x) => [x / total, (x / total) ** 2])),
      spatial: Float32Array.from(values, (x) => -x),
      logits: Float32Array.from(values.flatMap((x) => [0, 1, 2].map((c) => Number(x % 3 === c)))),
    };
  },
  async dispose() {},
};

let read: number[];
function source(failsAt = Number.POSITIVE_INFINITY): ImageSource {
  return {
    name: 'counted',
    labels: Int32Array.from({ length: total }, (_, i) => i % 3),
    async read(first, count) {
      if (first + count > failsAt) throw new Error('cut off');
      read.push(first);
      const data = new Uint8Array(3 * count);
      for (let i = 0; i < count; i++) data.set([(first + i) % 256, Math.floor((first + i) / 256), 0], 3 * i);
      return { data, count, height: 1, width: 1 };
    },
  };
}

let folder: string;
beforeEach(async () => {
  read = [];
  folder = await mkdtemp(path.join(tmpdir(), 'shards-'));
});
afterEach(() => rm(folder, { recursive: true }));

const files = async () => {
  const [job] = await readdir(folder);
  return (await readdir(path.join(folder, job))).sort().map((name) => path.join(folder, job, name));
};

describe('a second run', () => {
  test('into a half-finished folder goes on where the first was cut off, and finds the same', async () => {
    const plain = await collectFeatures(source(), { extractor });
    const store = folderStore(folder, { origin: 'one' });
    await expect(collectFeatures(source(1700), { extractor, store })).rejects.toThrow('cut off');
    expect(await files()).toHaveLength(1); // whole shards only
    read = [];
    const found = await collectFeatures(source(), { extractor, store });
    expect(Math.min(...read)).toBe(1000);
    expect(found).toEqual(plain);
    read = [];
    expect(await collectFeatures(source(), { extractor, store })).toEqual(plain);
    expect(read).toEqual([]);
  });

  test('makes a shard anew that was removed, and no other', async () => {
    const store = folderStore(folder, { origin: 'one' });
    const first = await collectFeatures(source(), { extractor, store });
    await rm((await files())[1]);
    read = [];
    expect(await collectFeatures(source(), { extractor, store })).toEqual(first);
    expect([Math.min(...read), Math.max(...read) < 2000]).toEqual([1000, true]);
  });

  test('of another model shares nothing', async () => {
    await collectFeatures(source(), { extractor, store: folderStore(folder, { origin: 'one' }) });
    read = [];
    await collectFeatures(source(), { extractor, store: folderStore(folder, { origin: 'two' }) });
    expect(read).toContain(0);
  });

  test('says which file is broken, and what to do', async () => {
    const store = folderStore(folder, { origin: 'one' });
    await collectFeatures(source(), { extractor, store });
    const [, second] = await files();
    await truncate(second, 500);
    await expect(collectFeatures(source(), { extractor, store })).rejects.toMatchObject({
      code: 'format',
      file: second,
    });
  });
});

test('a value that has changed on disk is found', async () => {
  const store = folderStore(folder, { origin: 'one' });
  await collectFeatures(source(), { extractor, store });
  const [, second] = await files();
  const bytes = await readFile(second);
  bytes[bytes.length - 3] ^= 1;
  await writeFile(second, bytes);
  await expect(collectFeatures(source(), { extractor, store })).rejects.toMatchObject({
    ...{ code: 'format', file: second },
    message: expect.stringMatching(/is damaged; remove the file/),
  });
});

test('an aborted run leaves whole shards only', async () => {
  const controller = new AbortController();
  const store = folderStore(folder, { origin: 'one' });
  const run = collectFeatures(source(), {
    ...{ extractor, store, signal: controller.signal },
    onProgress: (done) => done >= 1100 && controller.abort(),
  });
  await expect(run).rejects.toThrow(/abort/i);
  expect(await files()).toHaveLength(1);
});

test('kept pictures are read from the store, across shards', async () => {
  const store = folderStore(folder, { origin: 'one' });
  const kept = keptSource(source(), store, { height: 1, width: 1 });
  const expected = await source().read(990, 30);
  expect(await kept.read(990, 30)).toEqual(expected);
  read = [];
  expect((await keptSource(source(), store, { height: 1, width: 1 }).read(990, 30)).data).toEqual(
    expected.data,
  );
  expect(read).toEqual([]);
});

test('features that are no numbers are refused, and so is a single image', async () => {
  const broken: Extractor = {
    ...extractor,
    extract: async (images) => {
      const found = await extractor.extract(images);
      found.pool[1] = Number.NaN;
      return found;
    },
  };
  await expect(collectFeatures(source(), { extractor: broken })).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(/feature 1 of row 0 is NaN/),
  });
  const one = { ...source(), labels: Int32Array.of(0) };
  await expect(collectFeatures(one, { extractor })).rejects.toThrow(/at least two/);
});
