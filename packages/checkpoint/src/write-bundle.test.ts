import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type * as real from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { weightFromArray } from '@detailflow/core';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { refusal } from './test-files';
import { writeBundle } from './write-bundle';

// The moves at the end of writing cannot be made to fail from outside, so rename itself is replaced here.
const fault = vi.hoisted(() => ({ rename: undefined as ((from: string, to: string) => void) | undefined }));
vi.mock('node:fs/promises', async (original) => {
  const actual = await original<typeof real>();
  return {
    ...actual,
    rename: async (from: string, to: string) => {
      fault.rename?.(from, to);
      return actual.rename(from, to);
    },
  };
});

let folder: string;
let target: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'detailflow-'));
  target = join(folder, 'bundle');
  await writeBundle(target, contents('First'));
});
afterEach(() => {
  fault.rename = undefined;
  rmSync(folder, { recursive: true, force: true });
});

function contents(name: string) {
  const weights = new Map([['a', weightFromArray('a', [1], Float32Array.of(1))]]);
  return { name, license: 'MIT', tokenizer: { config: {}, weights } };
}
const nameAt = (path: string) => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).name;
const failWith = (code: string) => Object.assign(new Error(`rename: ${code}`), { code });

test('when the new bundle cannot be moved in, the earlier one is put back', async () => {
  fault.rename = (from) => {
    if (from.includes('.new-')) throw failWith('EIO');
  };
  const error = await refusal(() => writeBundle(target, contents('Second'), { overwrite: true }));
  expect(error).toMatchObject({ code: 'io', file: target });
  expect(readdirSync(folder)).toEqual(['bundle']);
  expect(nameAt(target)).toBe('First');
});

test('when the earlier bundle cannot be moved aside, it stays', async () => {
  fault.rename = () => {
    throw failWith('EACCES');
  };
  const error = await refusal(() => writeBundle(target, contents('Second'), { overwrite: true }));
  expect(error.message).toMatch(/permission denied/);
  expect(readdirSync(folder)).toEqual(['bundle']);
  expect(nameAt(target)).toBe('First');
});

test('when another process takes the place between the two moves, both bundles survive', async () => {
  fault.rename = (from) => {
    if (!from.includes('.new-')) return;
    mkdirSync(target);
    writeFileSync(join(target, 'theirs'), 'x');
  };
  const error = await refusal(() => writeBundle(target, contents('Second'), { overwrite: true }));
  const kept = readdirSync(folder).find((name) => name.startsWith('.bundle.old-')) as string;
  expect(error.message).toContain(join(folder, kept));
  expect(nameAt(join(folder, kept))).toBe('First');
  expect(readdirSync(target)).toEqual(['theirs']);
  expect(readdirSync(folder).length).toBe(2);
});
