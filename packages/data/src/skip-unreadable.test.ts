import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { centerCrop } from './center-crop';
import { openImageFolder } from './image-folder';
import { padImage } from './rgb-image';
import { skipUnreadable } from './skip-unreadable';
import { type SkippedImage, withSkipped } from './source-use';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'unreadable-'));
});
afterAll(async () => rm(home, { recursive: true }));

async function folder(name: string, files: Record<string, Uint8Array | string>): Promise<string> {
  const root = path.join(home, name);
  for (const [file, bytes] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true });
    await writeFile(path.join(root, file), bytes);
  }
  return root;
}

const picture = (shade: number, width = 4, height = 3) =>
  sharp({ create: { width, height, channels: 3, background: { r: shade, g: shade, b: shade } } });
const png = (shade: number, width?: number, height?: number) =>
  picture(shade, width, height).png().toBuffer();

/** A PNG file that says it has so many pixels. */
function claiming(bytes: Buffer, width: number, height: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32BE(width, 16);
  copy.writeUInt32BE(height, 20);
  return copy;
}

test('unreadable images among many: the next of the class in their place, each told of once', async () => {
  const root = await folder('among', {
    'a/0.png': await png(10),
    'a/1.png': '',
    'a/2.jpg': 'text',
    'a/3.png': await png(13),
    'b/0.png': await png(20),
    'b/1.png': (await png(21)).subarray(0, 60),
    'b/2.png': claiming(await png(22), 20_000, 20_000),
    'b/3.svg.png': '<svg xmlns="http://www.w3.org/2000/svg"/>',
  });
  const skipped: SkippedImage[] = [];
  const source = await openImageFolder(root);
  const dataset = await skipUnreadable(source, (one) => skipped.push(one));
  expect(skipped).toEqual([]);
  const shades = async () => {
    const found = [];
    for (let i = 0; i < dataset.labels.length; i++) found.push((await dataset.image(i)).data[0]);
    return found;
  };
  expect(await shades()).toEqual([10, 13, 13, 13, 20, 20, 20, 20]);
  await shades();
  expect(skipped.map(({ index }) => index)).toEqual([1, 2, 5, 6, 7]);
  const use = withSkipped({ images: 8, classes: 2, unused: [] }, skipped);
  expect(use.images).toBe(3);
  expect(use.unused.map(({ reason, examples }) => [path.basename(examples[0]), reason])).toEqual([
    ['1.png', 'unreadable: is empty'],
    ['2.jpg', expect.stringMatching(/^unreadable: is no image: neither PNG/)],
    ['1.png', expect.stringMatching(/^unreadable: is no image that can be decoded/)],
    ['2.png', expect.stringMatching(/^unreadable: has 20000 x 20000 pixels; the limit is/)],
    ['3.svg.png', expect.stringMatching(/^unreadable: is SVG, which is not read/)],
  ]);
});

test('a class of which nothing can be read is left out; its name stays', async () => {
  const root = await folder('lost', {
    'a/0.png': await png(10),
    'only/0.png': 'broken',
    'z/0.png': await png(30),
    'z/1.png': 'broken',
  });
  const skipped: SkippedImage[] = [];
  const dataset = await skipUnreadable(await openImageFolder(root), (one) => skipped.push(one));
  expect(dataset.classNames).toEqual(['a', 'only', 'z']);
  expect([...dataset.labels]).toEqual([0, 2, 2]);
  expect(skipped.map(({ file }) => file)).toEqual(['only/0.png']);
  expect((await dataset.image(2)).data[0]).toBe(30);
  expect(dataset.names).toEqual(['a/0.png', 'z/0.png', 'z/1.png']);
});

test('nothing to be read at all is an error that says why', async () => {
  const root = await folder('nothing', { 'a/0.png': 'broken', 'b/1.png': '' });
  await expect(skipUnreadable(await openImageFolder(root), () => {})).rejects.toThrow(
    /none of its images can be read \(2\): unreadable: is/,
  );
});

test('pictures smaller than the model, of one pixel, and long ones become squares', async () => {
  const root = await folder('sizes', {
    '1x1.png': await png(9, 1, 1),
    '1x3000.png': await png(50, 1, 3000),
    '3000x2.png': await png(60, 3000, 2),
    '5x5.png': await png(70, 5, 5),
    'large.png': await png(80, 3000, 2500),
  });
  const dataset = await openImageFolder(root);
  for (const [i, shade] of [9, 50, 60, 70, 80].entries()) {
    const square = centerCrop(await dataset.image(i), 32);
    expect(square.data.length).toBe(3 * 32 * 32);
    expect(square.data.every((value) => value === shade)).toBe(true);
    const padded = padImage(await dataset.image(i), 32);
    expect([padded.width, padded.height]).toEqual([32, 32]);
    expect(new Set(padded.data)).toContain(shade);
  }
});
