import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { isNumbered, numberedFolder } from './numbered-folder';

const root = mkdtempSync(path.join(tmpdir(), 'detailflow-numbers-'));
afterAll(() => rmSync(root, { recursive: true }));
const at = (...parts: string[]) => path.join(root, ...parts);

test('the next number, whatever follows it', async () => {
  const next = (name: string) => numberedFolder(at('runs', name), { newest: false });
  expect(await next('%03d-emoji')).toBe(at('runs', '000-emoji'));
  expect(await next('%03d-flowers')).toBe(at('runs', '001-flowers'));
  expect(await next('%03d-emoji')).toBe(at('runs', '002-emoji'));
  mkdirSync(at('runs', '041'));
  mkdirSync(at('runs', 'other-99'));
  mkdirSync(at('runs', '12345678901234-no-number-of-ours'));
  expect(await next('%03d-emoji')).toBe(at('runs', '042-emoji'));
  expect(await next('%d')).toBe(at('runs', '43'));
  expect(await next('exp%d-a')).toBe(at('runs', 'exp0-a'));
  expect(readdirSync(at('runs')).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('the newest of this name, or the first', async () => {
  const newest = (name: string) => numberedFolder(at('newest', name), { newest: true });
  expect(await newest('%03d-emoji')).toBe(at('newest', '000-emoji'));
  for (const name of ['007-emoji', '0012-emoji', '013-flowers', '9-emoji-too']) mkdirSync(at('newest', name));
  expect(await newest('%03d-emoji')).toBe(at('newest', '0012-emoji'));
  expect(await newest('%03d-flowers')).toBe(at('newest', '013-flowers'));
  expect(await newest('%03d-more')).toBe(at('newest', '014-more'));
});

test('whoever asks at once gets a number of its own', async () => {
  const asked = Array.from({ length: 40 }, (_, i) =>
    numberedFolder(at('many', `%03d-${i % 3}`), { newest: false }),
  );
  const numbers = (await Promise.all(asked)).map((folder) => path.basename(folder).slice(0, 3));
  expect(new Set(numbers).size).toBe(40);
  expect(readdirSync(at('many'))).toHaveLength(40);
});

test('one number, in the last part', async () => {
  expect(isNumbered('runs/plain')).toBe(false);
  expect(isNumbered('runs/100%-done')).toBe(false);
  for (const wrong of ['%d/x', '%d/%d', '%d-%03d', 'plain'])
    await expect(numberedFolder(at(wrong), { newest: false })).rejects.toThrow(
      /one number, in the last part/,
    );
});
