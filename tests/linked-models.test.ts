import { createHash } from 'node:crypto';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openFolder } from '@detailflow/checkpoint/node';
import { convert, load, type ModelSource } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';
import { refused } from './refused';

// Model folders as the cache of the Hugging Face Hub has them: every file a link to ../../blobs/HASH.

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-links-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const fashion = inRepository('tests/fixtures/fashion-ref');

/** Lays a folder out as the Hub's cache does. Gives the folder of links. */
function inCache(source: string, name: string): string {
  const root = path.join(folder, name);
  const snapshot = path.join(root, 'snapshots', '0123abcd');
  mkdirSync(path.join(root, 'blobs'), { recursive: true });
  for (const file of readdirSync(source, { recursive: true, encoding: 'utf8' })) {
    const from = path.join(source, file);
    if (!statSync(from).isFile()) continue;
    const blob = path.join(root, 'blobs', createHash('sha256').update(readFileSync(from)).digest('hex'));
    copyFileSync(from, blob);
    const link = path.join(snapshot, file);
    mkdirSync(path.dirname(link), { recursive: true });
    symlinkSync(path.relative(path.dirname(link), blob), link);
  }
  return snapshot;
}

async function draw(source: ModelSource): Promise<number[]> {
  await using model = await load(source);
  for await (const step of model.generate({ labels: [3], seed: 5, cfg: 2 })) {
    if (step.count === step.total) return Array.from((await step.pixels()).data as Float32Array);
  }
  throw new Error('no step');
}

describe.skipIf(process.platform === 'win32')('folders of links', () => {
  let expected: number[];
  beforeAll(async () => {
    expected = await draw(fashion);
  });

  test('an official checkpoint, mapped from its files', async () => {
    expect(await draw(inCache(fashion, 'official'))).toEqual(expected);
  });

  test('a float32 bundle, mapped from its files', async () => {
    const bundle = path.join(folder, 'bundle');
    await convert(fashion, bundle);
    expect(await draw(inCache(bundle, 'linked-bundle'))).toEqual(expected);
  });

  test('folders behind links', async () => {
    const root = path.join(folder, 'folders');
    mkdirSync(root);
    for (const part of ['tokenizer', 'ar']) symlinkSync(path.join(fashion, part), path.join(root, part));
    expect(await draw(root)).toEqual(expected);
  });

  test('links that lead nowhere, in circles, or to folders', async () => {
    const root = path.join(folder, 'odd');
    mkdirSync(path.join(root, 'checkpoints/900.pt'), { recursive: true });
    symlinkSync('900.pt', path.join(root, 'checkpoints/1000.pt'));
    symlinkSync('nothing', path.join(root, 'checkpoints/100.pt'));
    symlinkSync('10.pt', path.join(root, 'checkpoints/10.pt'));
    const tree = await openFolder(root);
    expect(await tree.list('checkpoints')).toEqual(['10.pt', '100.pt']);
    await refused(() => tree.open('checkpoints/100.pt'), 'io', /no such file/);
    await refused(() => tree.open('checkpoints/10.pt'), 'io', /links lead in circles/);
    expect(await tree.exists('checkpoints/100.pt')).toBe(false);
  });
});
