import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openImageFolder } from './image-folder';
import { openDataset } from './open-dataset';
import { useLines } from './source-use';

let home: string;
let png: Buffer;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'image-folder-'));
  png = await sharp({ create: { width: 4, height: 3, channels: 4, background: '#10203080' } })
    .png()
    .toBuffer();
});
afterAll(async () => rm(home, { recursive: true }));

/** Makes a tree: a name that ends in / is a folder, NAME -> TARGET a link, other files hold a picture or what is given. */
async function tree(
  name: string,
  items: readonly string[],
  contents: Record<string, Uint8Array | string> = {},
) {
  const root = path.join(home, name);
  await mkdir(root, { recursive: true });
  for (const item of items) {
    const [file, target] = item.split(' -> ');
    const full = path.join(root, file);
    await mkdir(path.dirname(full), { recursive: true });
    if (target !== undefined) await symlink(target, full);
    else if (file.endsWith('/')) await mkdir(full, { recursive: true });
    else await writeFile(full, contents[file] ?? png);
  }
  return root;
}

const options = { heldOut: 0.25, seed: 1 };

test("lists classes and images as torchvision's ImageFolder does, through links", async () => {
  const file = new URL('../../../tests/fixtures/image-folder.json', import.meta.url);
  const reference = JSON.parse(await readFile(file, 'utf8'));
  const root = await tree('torchvision', reference.tree);
  const { classNames, files, labels, unused } = await openImageFolder(path.join(root, 'set'));
  expect(classNames).toEqual(reference.classes);
  const samples = files.map((name, i) => [path.relative(path.join(root, 'set'), name), labels[i]]);
  expect(samples).toEqual(reference.samples);
  expect(unused).toEqual([]);
});

describe('links', () => {
  test('in circles end and are told of; links to nothing are unreadable', async () => {
    const items = [
      ...['a/1.png', 'a/in/2.png', 'b/3.png', 'a/in/up -> ..', 'a/in/top -> ../..', 'b/self -> self'],
      ...['b/gone.png -> nowhere.png', 'b/other -> ../a', 'back -> .', 'b/gone -> ../nowhere'],
    ];
    const root = await tree('circles', items);
    const { files, unused } = await openImageFolder(root);
    // b/other leads to a, which lies beside b: its images are images of b as well, as torchvision has it.
    expect(files.map((file) => path.relative(root, file))).toEqual([
      ...['a/1.png', 'a/in/2.png', 'b/3.png', 'b/other/1.png', 'b/other/in/2.png'],
    ]);
    expect(Object.fromEntries(unused.map(({ reason, examples }) => [reason, examples]))).toEqual({
      'a link back to a folder that it lies in': [
        ...['back', 'a/in/top', 'a/in/up', 'b/other/in/top', 'b/other/in/up'],
      ],
      'unreadable: a link to nothing': ['b/gone', 'b/gone.png'],
      'unreadable: a link that leads back to itself': ['b/self'],
    });
  });

  test('the folder itself may be one', async () => {
    const root = await tree('behind', ['real/a/1.png', 'real/a/loop -> ../..', 'link -> real']);
    const { files, unused } = await openImageFolder(path.join(root, 'link'));
    // The loop leads to the folder above, and from there through `link` and `real` back to where it began.
    expect(files.map((file) => path.basename(file))).toEqual(['1.png']);
    expect(unused.map(({ reason }) => reason)).toEqual(['a link back to a folder that it lies in']);
  });

  test('of many folders that lead to one another are given up with a message, not followed for ever', async () => {
    const doubled = Array.from({ length: 24 }, (_, i) => [`${i}/x -> ../${i + 1}`, `${i}/y -> ../${i + 1}`]);
    const root = await tree('doubling', [...doubled.flat(), '24/1.png']);
    await expect(openImageFolder(path.join(root, '0'))).rejects.toMatchObject({
      code: 'limit',
      message: expect.stringMatching(/to one folder more than 1000 times/),
    });
  });
});

describe('files that are not used are counted, by reason', () => {
  test.skipIf(process.platform === 'win32')('pipes are not waited for', async () => {
    const root = await tree('pipes', ['a/1.png']);
    for (const name of ['2.png', 'control']) execFileSync('mkfifo', [path.join(root, 'a', name)]);
    const { files, unused } = await openImageFolder(root);
    expect(files).toHaveLength(1);
    expect(unused).toEqual([
      { reason: 'unreadable: not a regular file', count: 2, examples: ['a/2.png', 'a/control'] },
    ]);
  });

  test('other formats, other files, hidden ones, empty folders inside', async () => {
    const root = await tree(
      'mixed',
      [
        ...['a/1.png', 'a/2.PNG', 'a/noname', 'a/really-a-png.dat', 'a/notes.txt', 'a/more.txt', 'a/p.heic'],
        ...[
          'a/v.svg',
          'a/x.jxl',
          'a/.hidden.png',
          'a/Thumbs.db',
          'a/empty/',
          'a/tool',
          '.cache/',
          'list.csv',
        ],
      ],
      {
        'a/notes.txt': 'notes',
        'a/more.txt': 'more',
        'a/p.heic': Buffer.concat([Buffer.of(0, 0, 0, 24), Buffer.from('ftypheic')]),
        'a/v.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
        'a/x.jxl': Buffer.of(0xff, 0x0a, 1, 2),
        'a/Thumbs.db': Buffer.of(0xd0, 0xcf, 0x11, 0xe0),
        'a/tool': '#!/bin/sh\n',
        'list.csv': 'a,b',
      },
    );
    const { files, unused } = await openImageFolder(root);
    expect(files.map((file) => path.basename(file))).toEqual([
      '1.png',
      '2.PNG',
      'noname',
      'really-a-png.dat',
    ]);
    expect(Object.fromEntries(unused.map(({ reason, examples }) => [reason, examples.join()]))).toEqual({
      'hidden (the name begins with a dot)': '.cache,a/.hidden.png',
      'no image (.csv)': 'list.csv',
      'no image (.txt)': 'a/more.txt,a/notes.txt',
      'no image (.db)': 'a/Thumbs.db',
      'no image (no extension)': 'a/tool',
      'HEIF, which is not read': 'a/p.heic',
      'SVG, which is not read': 'a/v.svg',
      'JPEG XL, which is not read': 'a/x.jxl',
    });
    const lines = useLines({ images: 4, classes: 1, unused });
    expect(lines[0]).toBe('4 images of 1 class; 10 files not used:');
    expect(lines).toContain('  2 x no image (.txt): a/more.txt, a/notes.txt');
  });

  test('images beside folders of classes; a flat folder with another folder inside', async () => {
    const both = await openImageFolder(await tree('both', ['a/1.png', 'b/2.png', 'loose.png', 'other.jpg']));
    expect([both.classNames, both.files.length]).toEqual([['a', 'b'], 2]);
    expect(both.unused).toEqual([
      { reason: 'an image beside the folders of classes', count: 2, examples: ['loose.png', 'other.jpg'] },
    ]);
    const root = await tree('flat', ['1.png', '2.png', 'logs/run.txt'], { 'logs/run.txt': 'x' });
    const flat = await openImageFolder(root);
    expect([flat.classNames, flat.files.length]).toEqual([['flat'], 2]);
    expect(flat.unused.map(({ reason, examples }) => [reason, ...examples])).toEqual([
      ['no image (.txt)', 'logs/run.txt'],
      ['a folder without images', 'logs'],
    ]);
  });

  test('a class without images says what is there instead', async () => {
    const root = await tree('none', ['a/1.png', 'b/1.heic', 'b/2.heic'], {
      'b/1.heic': Buffer.concat([Buffer.of(0, 0, 0, 24), Buffer.from('ftypheic')]),
      'b/2.heic': Buffer.concat([Buffer.of(0, 0, 0, 24), Buffer.from('ftypmif1')]),
    });
    const failure = openImageFolder(root);
    await expect(failure).rejects.toMatchObject({ code: 'io', file: path.join(root, 'b') });
    await expect(failure).rejects.toThrow(/2 x HEIF, which is not read: b\/1.heic, b\/2.heic/);
  });

  test('parts: train alone, train with val and test, flat parts', async () => {
    const alone = await openDataset(
      await tree('alone', ['train/a/1.png', 'train/b/1.png', 'train/b/2.png']),
      options,
    );
    expect(alone.train.classNames).toEqual(['a', 'b']);
    expect(alone.use.images).toBe(3);
    const root = await tree(
      'parts',
      ['train/a/1.png', 'val/a/1.png', 'test/a/1.png', 'test/a/2.png', 'info.md'],
      {
        'info.md': '# x',
      },
    );
    const { train, heldOut, use } = await openDataset(root, options);
    expect([train.labels.length, heldOut.labels.length, use.images]).toEqual([1, 1, 2]);
    expect(use.unused).toEqual([
      { reason: 'beside the parts', count: 1, examples: ['info.md'] },
      {
        reason: 'an image in "test"; the parts are train and val',
        count: 2,
        examples: ['test/a/1.png', 'test/a/2.png'],
      },
    ]);
    const flat = await openDataset(await tree('flat-parts', ['train/1.png', 'test/2.png']), options);
    expect([flat.train.classNames, flat.heldOut.classNames]).toEqual([['flat-parts'], ['flat-parts']]);
    const wrong = await tree('wrong-parts', ['train/a/1.png', 'train/c/1.png', 'val/a/1.png', 'val/b/1.png']);
    await expect(openDataset(wrong, options)).rejects.toThrow(/only train has c; only val has b/);
    // A class may be called train.
    const named = await openDataset(
      await tree('vehicles', ['car/1.png', 'train/1.png', 'car/2.png']),
      options,
    );
    expect(named.train.classNames).toEqual(['car', 'train']);
  });
});

test('alpha is dropped, or laid on a colour that is asked for', async () => {
  const root = await tree('alpha', ['1.png', '2.png']);
  const pixel = async (background?: [number, number, number]) => {
    const { whole } = await openDataset(root, { ...options, background });
    return [...(await whole!.image(0)).data.subarray(0, 3)];
  };
  expect(await pixel()).toEqual([16, 32, 48]);
  expect(await pixel([255, 255, 255])).toEqual([135, 143, 151]); // alpha is 128
});
