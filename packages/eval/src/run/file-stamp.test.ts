import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fileStamp } from './file-stamp';

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'stamp-'));
  mkdirSync(path.join(home, 'data', 'cats'), { recursive: true });
  writeFileSync(path.join(home, 'data', 'cats', 'a.png'), 'one');
  writeFileSync(path.join(home, 'data', 'cats', 'b.png'), 'two');
});
afterEach(() => rmSync(home, { recursive: true }));

test('content counts, not size or time', async () => {
  const file = path.join(home, 'data', 'cats', 'a.png');
  const { atime, mtime } = statSync(file);
  const [folder, single] = [await fileStamp([path.join(home, 'data')]), await fileStamp([file])];
  writeFileSync(file, 'ONE');
  utimesSync(file, atime, mtime);
  expect(await fileStamp([path.join(home, 'data')])).not.toBe(folder);
  expect(await fileStamp([file])).not.toBe(single);
  writeFileSync(file, 'one');
  utimesSync(file, 0, 0);
  expect(await fileStamp([path.join(home, 'data')])).toBe(folder);
  expect(await fileStamp([file])).toBe(single);
});

test('the place of a file inside its folder counts, not that of the folder', async () => {
  const before = await fileStamp([path.join(home, 'data')]);
  await rename(path.join(home, 'data'), path.join(home, 'moved'));
  expect(await fileStamp([path.join(home, 'moved')])).toBe(before);
  await rename(path.join(home, 'moved', 'cats'), path.join(home, 'moved', 'dogs'));
  expect(await fileStamp([path.join(home, 'moved')])).not.toBe(before);
});

test('what is no path counts by its text; links are followed, and circles end', async () => {
  expect(await fileStamp(['shapes:10x32'])).not.toBe(await fileStamp(['shapes:11x32']));
  const before = await fileStamp([path.join(home, 'data')]);
  symlinkSync(path.join(home, 'data'), path.join(home, 'link'));
  expect(await fileStamp([path.join(home, 'link')])).toBe(before);
  symlinkSync('..', path.join(home, 'data', 'cats', 'up'));
  symlinkSync('nowhere', path.join(home, 'data', 'cats', 'dangling'));
  expect(await fileStamp([path.join(home, 'data')])).not.toBe(before);
});
