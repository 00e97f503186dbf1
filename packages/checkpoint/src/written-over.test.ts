import { mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openFile } from './node-files';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'written-over-'));
  file = path.join(folder, 'weights');
  await writeFile(file, 'old content');
  await utimes(file, 1, 1);
});
afterEach(() => rm(folder, { recursive: true }));

const text = async (source: Awaited<ReturnType<typeof openFile>>) =>
  new TextDecoder().decode(await source.read(0, 3));

// A program that serves a model reads some of its weights long after others: those of two models beside each other draw something, too.
test('a file of the same size that is written over another is not read on', async () => {
  const source = await openFile(file);
  expect(await text(source)).toBe('old');
  await writeFile(file, 'new content');
  await expect(text(source)).rejects.toMatchObject({
    code: 'io',
    file,
    message: expect.stringContaining('written to since it was opened'),
  });
  await source.close();
  const again = await openFile(file);
  expect(await text(again)).toBe('new');
  await again.close();
});

test('one that is put in its place by renaming leaves what was opened as it is', async () => {
  const source = await openFile(file);
  await writeFile(`${file}.new`, 'new content');
  await rename(`${file}.new`, file);
  expect(await text(source)).toBe('old');
  await source.close();
});
