import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { zipSync } from 'fflate';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeNpz } from './npz-writer';
import { openDataset } from './open-dataset';
import { useLines } from './source-use';

const options = { heldOut: 0.25, seed: 3 };
let home: string;
let picture: Uint8Array;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'class-folders-'));
  const create = { width: 4, height: 4, channels: 3, background: '#123456' } as const;
  picture = await sharp({ create }).png().toBuffer();
});
afterAll(() => rm(home, { recursive: true }));

const bytesOf = (file: string) => (file.endsWith('.txt') ? new TextEncoder().encode('a text') : picture);

/** Opens pictures of these names as a folder, and as a zip file, which is read otherwise. */
async function bothWays(name: string, files: readonly string[]) {
  for (const file of files) {
    await mkdir(path.join(home, name, path.dirname(file)), { recursive: true });
    await writeFile(path.join(home, name, file), bytesOf(file));
  }
  const zip = path.join(home, `${name}.zip`);
  await writeFile(zip, zipSync(Object.fromEntries(files.map((file) => [file, bytesOf(file)]))));
  return [path.join(home, name), zip];
}

describe('a folder and an archive of it have the same classes', () => {
  test('named by numbers: folders are names, and no classes lie between them', async () => {
    const years = ['1999', '2', '2024', '10'];
    const files = years.flatMap((year) => [`${year}/a.png`, `${year}/b.png`]);
    for (const source of await bothWays('years', files)) {
      const { whole, train, heldOut, use } = await openDataset(source, options);
      expect(whole?.classNames, source).toEqual(['10', '1999', '2', '2024']);
      expect([...(whole?.labels ?? [])]).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
      expect(use.classes).toBe(4);
      for (const part of [train, heldOut]) await part.close?.();
    }
  });

  test('beyond the first 65536 letters, too: by code points', async () => {
    const files = ['\u{1F600}/a.png', '\uFF21/a.png', 'z/a.png', 'z/b.png'];
    for (const source of await bothWays('letters', files)) {
      const { train, heldOut } = await openDataset(source, options);
      expect(train.classNames, source).toEqual(['z', '\uFF21', '\u{1F600}']);
      for (const part of [train, heldOut]) await part.close?.();
    }
  });

  test('a class that only one part has is refused', async () => {
    const files = ['train/cat/1.png', 'train/dog/1.png', 'val/cat/1.png', 'val/bird/1.png'];
    for (const source of await bothWays('unequal', files))
      await expect(openDataset(source, options), source).rejects.toThrow(
        /must have the same classes; only train has dog; only .* has bird/,
      );
  });

  test.each([
    ['Train', 'Test'],
    ['training', 'testing'],
    ['TRAIN', 'Validation'],
    ['train', 'Test'],
    ['train', 'dev'],
    ['train', 'eval'],
  ])('parts that are written %s and %s', async (first, second) => {
    const files = ['cat', 'dog'].flatMap((name) => [
      ...[`${first}/${name}/1.png`, `${first}/${name}/2.png`, `${second}/${name}/3.png`],
    ]);
    for (const source of await bothWays(`${first}-${second}`, files)) {
      const { train, heldOut, whole } = await openDataset(source, options);
      expect([train.classNames, train.labels.length], source).toEqual([['cat', 'dog'], 4]);
      expect([heldOut.classNames, heldOut.labels.length]).toEqual([['cat', 'dog'], 2]);
      expect(whole).toBeUndefined();
      for (const part of [train, heldOut]) await part.close?.();
    }
  });

  test.each([
    ['train', 'extra'],
    ['training_set', 'test_set'],
    ['Train-2019', 'holdout'],
  ])('%s and %s are no classes, where both hold folders of the same names', async (first, second) => {
    const files = ['cat', 'dog'].flatMap((name) => [`${first}/${name}/1.png`, `${second}/${name}/2.png`]);
    for (const source of await bothWays(`${first}-${second}`, files))
      await expect(openDataset(source, options), source).rejects.toMatchObject({
        ...{ code: 'format', message: expect.stringMatching(/look like parts/) },
      });
  });

  test.each<[string, string[], string[]]>([
    [
      'folders of the same names in classes, none of them for training',
      ['cat/web/1.png', 'cat/own/1.png', 'trainers/web/1.png', 'trainers/own/1.png'],
      ['cat', 'trainers'],
    ],
    [
      'two folders around',
      ['wrap/wrap/cat/1.png', 'wrap/wrap/dog/1.png', 'wrap/wrap/dog/2.png'],
      ['cat', 'dog'],
    ],
    ['one around the only class', ['wrap/cat/1.png', 'wrap/cat/2.png'], ['cat']],
    ['a class with a folder of its own', ['cat/1.png', 'cat/more/2.png', 'cat/more/3.png'], ['cat']],
    ['the only class', ['cat/1.png', 'cat/2.png'], ['cat']],
    ['a text beside', ['LICENSE.txt', 'data/cat/1.png', 'data/dog/1.png'], ['cat', 'dog']],
    ['around a part', ['wrap/train/cat/1.png', 'wrap/train/dog/1.png'], ['cat', 'dog']],
    ['what a Mac leaves', ['wrap/cat/1.png', 'wrap/dog/1.png', '__MACOSX/wrap/cat/._1.png'], ['cat', 'dog']],
    ['a class called train', ['train/a/1.png', 'bus/a/1.png', 'bus/b/2.png'], ['bus', 'train']],
  ])('folders around them are passed by: %s', async (name, files, classes) => {
    const found: (readonly string[] | undefined)[] = [];
    for (const source of await bothWays(name, files)) {
      const { whole, train, heldOut } = await openDataset(source, options);
      expect(whole?.classNames, source).toEqual(classes);
      found.push(whole?.names?.map((one) => (one.startsWith('train/') ? one.slice(6) : one)));
      for (const part of [train, heldOut]) await part.close?.();
    }
    const ends = found.map((names) => names?.map((one) => one.split('/').slice(-2).join('/')));
    expect(ends[0]).toEqual(ends[1]);
  });

  test('what lies beside them is counted', async () => {
    const files = ['a.txt', 'in/b.txt', 'in/on/cat/1.png', 'in/on/cat/c.txt', 'in/on/dog/1.png'];
    for (const source of await bothWays('beside', files)) {
      const { use, train, heldOut } = await openDataset(source, options);
      const [{ count, examples }] = use.unused;
      expect([count, examples], source).toEqual([3, ['a.txt', 'in/b.txt', 'in/on/cat/c.txt']]);
      for (const part of [train, heldOut]) await part.close?.();
    }
  });

  test('parts without classes are of one class, in a folder around them, too', async () => {
    for (const around of ['', 'pets/']) {
      const files = ['train/1.png', 'train/2.png', 'val/3.png'].map((file) => `${around}${file}`);
      for (const source of await bothWays(around === '' ? 'flat' : 'flat-in', files)) {
        const { train, heldOut, whole } = await openDataset(source, options);
        expect(train.classNames, source).toEqual([around === '' ? 'flat' : 'pets']);
        expect([train.labels.length, heldOut.labels.length, whole]).toEqual([2, 1, undefined]);
        for (const part of [train, heldOut]) await part.close?.();
      }
    }
  });

  test('images of a class come by folder, then by name', async () => {
    const files = [
      'cat/a/2.png',
      'cat/z.png',
      'cat/1.png',
      'cat/a/\u{1F600}.png',
      'cat/a/\uFF21.png',
      'dog/1.png',
    ];
    const orders: unknown[] = [];
    for (const source of await bothWays('order', files)) {
      const { whole, train, heldOut } = await openDataset(source, options);
      orders.push(whole?.names);
      for (const part of [train, heldOut]) await part.close?.();
    }
    const cats = ['cat/1.png', 'cat/z.png', 'cat/a/2.png', 'cat/a/\uFF21.png', 'cat/a/\u{1F600}.png'];
    expect(orders).toEqual([
      [...cats, 'dog/1.png'],
      [...cats, 'dog/1.png'],
    ]);
  });

  test('a link back to the folder around is no way in', async () => {
    const loop = path.join(home, 'loop');
    await mkdir(loop);
    await symlink(loop, path.join(loop, 'again'));
    await expect(openDataset(loop, options)).rejects.toThrow(/no images in this folder/);
  });

  test('a class may be called Training', async () => {
    for (const source of await bothWays('gym', ['Training/1.png', 'Rest/1.png', 'Rest/2.png'])) {
      const { train, heldOut } = await openDataset(source, options);
      expect(train.classNames, source).toEqual(['Rest', 'Training']);
      for (const part of [train, heldOut]) await part.close?.();
    }
  });
});

describe('classes of a .npz file', () => {
  const pixels = (count: number) => ({ shape: [count, 2, 2, 3], data: new Uint8Array(12 * count) });
  const numbers = (...labels: number[]) => ({ shape: [labels.length], data: Int32Array.from(labels) });
  const open = async (name: string, arrays: Parameters<typeof writeNpz>[0], classNames?: string[]) => {
    const file = path.join(home, `${name}.npz`);
    await writeFile(file, writeNpz(arrays));
    return openDataset(file, { ...options, classNames });
  };

  test('have the names that are given', async () => {
    const arrays = { images: pixels(4), labels: numbers(0, 1, 2, 1) };
    const { train } = await open('named', arrays, ['shirt', 'shoe']);
    expect(train.classNames).toEqual(['shirt', 'shoe', '2']);
  });

  test('that none of the images is of are told of', async () => {
    const { use } = await open('from-one', { images: pixels(6), labels: numbers(1, 2, 9, 1, 2, 9) });
    expect(useLines(use)[0]).toBe('6 images of 10 classes (7 without an image: 0, 3, 4, 5, 6, ...)');
    const { use: full } = await open('full', { images: pixels(4), labels: numbers(0, 1, 0, 1) });
    expect(useLines(full)[0]).toBe('4 images of 2 classes');
  });

  test('of one part alone are refused: those of the other would all be of the first class', async () => {
    const arrays = { x_train: pixels(2), y_train: numbers(0, 1), x_test: pixels(2) };
    await expect(open('half', arrays)).rejects.toThrow(/none of the test images/);
  });
});

test('files of Parquet that give the classes other names are refused; what lies beside them is counted', async () => {
  const fixture = (name: string) =>
    new URL(`../../../tests/fixtures/parquet/shapes/${name}-00000-of-00001.parquet`, import.meta.url)
      .pathname;
  const folder = path.join(home, 'hub');
  await mkdir(path.join(folder, 'circles'), { recursive: true });
  await writeFile(path.join(folder, 'README.md'), '# shapes');
  const [train, test] = await Promise.all([readFile(fixture('train')), readFile(fixture('test'))]);
  await writeFile(path.join(folder, 'train-0.parquet'), train);
  await writeFile(path.join(folder, 'test-0.parquet'), test);
  const opened = await openDataset(folder, options);
  expect(opened.use.unused).toEqual([
    { reason: 'beside the Parquet files', count: 2, examples: ['README.md', 'circles'] },
  ]);
  for (const part of [opened.train, opened.heldOut]) await part.close?.();
  const turned = Buffer.from(
    test.toString('latin1').replaceAll('"circle", "square"', '"square", "circle"'),
    'latin1',
  );
  expect(turned.equals(test)).toBe(false);
  await writeFile(path.join(folder, 'test-0.parquet'), turned);
  await expect(openDataset(folder, options)).rejects.toThrow(
    /calls class 0 "square", which is "circle" in another file/,
  );
});
