import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bytesSource, readFloat32, weightFromArray } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { afterAll, describe, expect, test } from 'vitest';
import { type FileTree, fileTree } from './file-tree';
import { openFolder } from './node-files';
import { openWeightsPath } from './open-weights-path';
import { buildTorch, concat, op, pickle, refusal, tensor, utf8 } from './test-files';
import { openWeightFiles } from './weight-files';

const shards = fileURLToPath(new URL('../../../tests/fixtures/shards', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'detailflow-shards-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A safetensors file of vectors. */
function safetensors(tensors: Record<string, number[]>, metadata = {}): Uint8Array {
  const weights = Object.entries(tensors).map(([name, values]) => ({
    ...weightFromArray(name, [values.length], Float32Array.from(values)),
    values: Float32Array.from(values),
  }));
  const plan = encodeSafetensors(weights, metadata);
  return concat(plan.header, ...plan.tensors.map(({ entry }) => new Uint8Array(entry.values.buffer)));
}

const indexOf = (map: unknown, more = {}) =>
  utf8(JSON.stringify({ metadata: { total_size: 8 }, weight_map: map, ...more }));

/** A tree that counts what is open. */
function treeOf(files: Record<string, Uint8Array>): { tree: FileTree; open: () => number } {
  let count = 0;
  const inner = fileTree(
    'm',
    new Map(Object.entries(files).map(([path, bytes]) => [path, bytesSource(bytes, `m/${path}`)])),
  );
  const tree: FileTree = {
    ...inner,
    async open(path) {
      const source = await inner.open(path);
      count++;
      return { ...source, close: async () => void count-- };
    },
  };
  return { tree, open: () => count };
}

const index = 'model.safetensors.index.json';
const two = {
  [index]: indexOf({ b: 'two.safetensors', a: 'one.safetensors' }),
  'one.safetensors': safetensors({ a: [1], unlisted: [3] }, { one: '1' }),
  'two.safetensors': safetensors({ b: [2] }, { two: '2' }),
};

async function read(tree: FileTree, path: string): Promise<Record<string, number[]>> {
  const files = await openWeightFiles(tree, path);
  const values = Object.fromEntries(
    await Promise.all(
      [...files.weights].map(async ([name, weight]) => [name, [...(await readFloat32(weight))]]),
    ),
  );
  await files.close();
  return values;
}

test.each(['model.safetensors', index])('reads two files by the name %s', async (name) => {
  const tree = await openFolder(shards);
  expect(await read(tree, name)).toEqual({ a: [0, 0], b: [0, 0] });
  const files = await openWeightsPath(join(shards, name));
  const places = [...files.weights.values()].map(({ location }) => location?.path);
  expect(places).toEqual(['00001', '00002'].map((n) => join(shards, `model-${n}-of-00002.safetensors`)));
  await files.close();
});

test('the index decides where a tensor lies, and in which order; all files are closed', async () => {
  const { tree, open } = treeOf(two);
  const files = await openWeightFiles(tree, 'model.safetensors');
  expect([files.file, [...files.weights.keys()]]).toEqual([`m/${index}`, ['b', 'a']]);
  expect(files.metadata).toEqual(
    new Map([
      ['two', '2'],
      ['one', '1'],
    ]),
  );
  expect(open()).toBe(2);
  await files.close();
  expect(open()).toBe(0);
});

test('one file is preferred to several, and files may lie in a folder below', async () => {
  const { tree } = treeOf({ ...two, 'model.safetensors': safetensors({ a: [7] }) });
  expect(await read(tree, 'model.safetensors')).toEqual({ a: [7] });
  const below = treeOf({
    [`ar/${index}`]: indexOf({ a: 'parts/one.safetensors' }),
    'ar/parts/one.safetensors': two['one.safetensors'],
  });
  expect(await read(below.tree, 'ar/model.safetensors')).toEqual({ a: [1] });
});

test('files of PyTorch', async () => {
  const state = pickle(op.dict(op.text('a'), tensor()));
  const { tree } = treeOf({
    'pytorch_model.bin.index.json': indexOf({ a: 'pytorch_model-00001-of-00001.bin' }),
    'pytorch_model-00001-of-00001.bin': buildTorch(state),
  });
  expect(await read(tree, 'pytorch_model.bin.index.json')).toEqual({ a: [1, 2] });
});

describe('hostile and broken indices', () => {
  const attacks: [string, Uint8Array, RegExp][] = [
    ['a file above', indexOf({ a: '../one.safetensors' }), /must lie in the folder of the index/],
    ['a file above, later', indexOf({ a: 'x/../../one.safetensors' }), /must lie in the folder/],
    ['an absolute file', indexOf({ a: '/etc/passwd' }), /absolute/],
    ['a Windows drive', indexOf({ a: 'C:\\one.safetensors' }), /backslash/],
    ['an address', indexOf({ a: 'https://example.com/one.safetensors' }), /\/\//],
    ['a NUL', indexOf({ a: 'one.safetensors\0' }), /NUL/],
    ['itself', indexOf({ a: index }), /another index/],
    ['a file that is no text', indexOf({ a: 1 }), /no text/],
    ['no map', utf8('{}'), /weight_map/],
    ['a list for a map', indexOf(['one.safetensors']), /weight_map/],
    ['nothing', indexOf({}), /no tensors/],
    ['no JSON', utf8('{"weight_map":'), /JSON/],
    ['a tensor twice', utf8('{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}'), /twice/],
    [
      'a tensor twice in disguise',
      utf8('{"weight_map":{"a":"one.safetensors","\\u0061" :"two.safetensors"}}'),
      /twice/,
    ],
    [
      'two maps',
      utf8('{"weight_map":{"a":"one.safetensors"},"weight_map":{"b":"two.safetensors"}}'),
      /twice/,
    ],
  ];
  test.each(attacks)('%s', async (_, bytes, message) => {
    const { tree, open } = treeOf({ ...two, [index]: bytes });
    const error = await refusal(() => openWeightFiles(tree, index));
    expect([error.code, error.file]).toEqual(['format', `m/${index}`]);
    expect(error.message).toMatch(message);
    expect(open()).toBe(0);
  });

  test('a file that is missing, lacks a tensor, or is broken', async () => {
    const missing = treeOf({ ...two, [index]: indexOf({ a: 'one.safetensors', b: 'three.safetensors' }) });
    expect(await refusal(() => openWeightFiles(missing.tree, index))).toMatchObject({
      code: 'io',
      file: 'm/three.safetensors',
    });
    const lacking = treeOf({ ...two, [index]: indexOf({ a: 'two.safetensors' }) });
    expect(await refusal(() => openWeightFiles(lacking.tree, index))).toMatchObject({
      code: 'weights',
      entry: 'a',
    });
    const broken = treeOf({ ...two, 'two.safetensors': utf8('not weights at all') });
    expect(await refusal(() => openWeightFiles(broken.tree, index))).toMatchObject({
      code: 'format',
      file: 'm/two.safetensors',
    });
    for (const { open } of [missing, lacking, broken]) expect(open()).toBe(0);
  });

  test('a million files are not opened, a huge index is not read', async () => {
    const many = Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `${i}.safetensors`]));
    const { tree } = treeOf({ [index]: indexOf(many) });
    expect((await refusal(() => openWeightFiles(tree, index))).code).toBe('limit');
    const huge = fileTree(
      'm',
      new Map([[index, { name: index, size: 2 ** 40, read: () => Promise.reject(new Error('read')) }]]),
    );
    expect((await refusal(() => openWeightFiles(huge, index))).code).toBe('limit');
  });

  test('a link that leads out of the folder gives nothing but weights', async () => {
    const secret = join(folder, 'secret');
    writeFileSync(secret, 'root:x:0:0: a file of another kind');
    symlinkSync(secret, join(folder, 'one.safetensors'));
    writeFileSync(join(folder, index), indexOf({ a: 'one.safetensors' }));
    const error = await refusal(() => openWeightsPath(join(folder, index)));
    expect([error.code, error.file]).toEqual(['format', join(folder, 'one.safetensors')]);
    expect(error.message).not.toContain('root');
  });
});
