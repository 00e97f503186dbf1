import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { zipSync } from 'fflate';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { centerCrop } from './center-crop';
import { MemoryDataset } from './dataset';
import { EpochOrder } from './epoch-order';
import { parseIdx } from './idx';
import { writeNpy } from './npy';
import { openDataset } from './open-dataset';
import { flipImage, padImage, type RgbImage } from './rgb-image';
import { shapesDataset } from './shapes';
import { codeViews, trainingView } from './views';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'data-'));
});
afterAll(async () => rm(home, { recursive: true }));

const options = { heldOut: 0.25, seed: 1 };
const folder = async (name: string) => {
  const full = path.join(home, name);
  await mkdir(full, { recursive: true });
  return full;
};

function idx(dims: number[], data: number[]): Uint8Array {
  const head = Buffer.alloc(4 + 4 * dims.length);
  head.set([0, 0, 8, dims.length]);
  for (const [i, extent] of dims.entries()) head.writeUInt32BE(extent, 4 + 4 * i);
  return Buffer.concat([head, Buffer.from(data)]);
}

describe('formats', () => {
  test('IDX, plain and gzipped, with a test part', async () => {
    const place = await folder('idx');
    await writeFile(path.join(place, 'train-images-idx3-ubyte'), idx([2, 1, 2], [1, 2, 3, 4]));
    await writeFile(path.join(place, 'train-labels-idx1-ubyte.gz'), gzipSync(idx([2], [1, 0])));
    await writeFile(path.join(place, 't10k-images-idx3-ubyte.gz'), gzipSync(idx([1, 1, 2], [9, 8])));
    await writeFile(path.join(place, 't10k-labels-idx1-ubyte'), idx([1], [1]));
    const { train, heldOut } = await openDataset(place, options);
    expect(train.name).not.toBe(heldOut.name); // features are kept under these names
    expect([...train.labels]).toEqual([1, 0]);
    expect([...(await train.image(1)).data]).toEqual([3, 3, 3, 4, 4, 4]);
    expect([...(await heldOut.image(0)).data]).toEqual([9, 9, 9, 8, 8, 8]);
  });

  test('IDX that is none: cut off, other types, sizes beyond the data', () => {
    expect(() => parseIdx(Uint8Array.of(0, 0), 'f')).toThrow(/f: is no IDX file/);
    expect(() => parseIdx(Uint8Array.of(1, 2, 8, 1, 0, 0, 0, 0), 'f')).toThrow(/two zero bytes/);
    expect(() => parseIdx(Uint8Array.of(0, 0, 13, 1, 0, 0, 0, 0), 'f')).toThrow(/only bytes/);
    expect(() => parseIdx(idx([4_000_000_000, 4_000_000_000], [1]), 'f')).toThrow(/follow the header/);
  });

  test('CIFAR in its binary layout', async () => {
    const place = await folder('cifar');
    const record = Buffer.alloc(3073);
    record[0] = 7;
    record[1] = 11; // red of the first pixel
    record[1 + 1024] = 12;
    record[1 + 2048] = 13;
    await writeFile(path.join(place, 'data_batch_1.bin'), Buffer.concat([record, record]));
    await writeFile(path.join(place, 'test_batch.bin'), record);
    const { train, heldOut } = await openDataset(place, options);
    expect(train.name).not.toBe(heldOut.name);
    expect([train.labels.length, heldOut.labels[0]]).toEqual([2, 7]);
    expect([...(await train.image(1)).data.subarray(0, 3)]).toEqual([11, 12, 13]);
    await writeFile(path.join(place, 'test_batch.bin'), record.subarray(1));
    await expect(openDataset(place, options)).rejects.toThrow(/no whole number of CIFAR records/);
  });

  test('npz with images and classes, and others', async () => {
    const file = path.join(home, 'a.npz');
    const images = writeNpy({ shape: [8, 1, 1, 3], data: Uint8Array.from({ length: 24 }, (_, i) => i) });
    const labels = writeNpy({ shape: [8], data: Int32Array.from([0, 1, 0, 1, 0, 1, 0, 1]) });
    await writeFile(file, zipSync({ 'arr_0.npy': images, 'labels.npy': labels }));
    const { train, heldOut } = await openDataset(file, options);
    expect(train.labels.length + heldOut.labels.length).toBe(8);
    expect(heldOut.labels.length).toBeGreaterThan(0);
    expect(train.name).not.toBe(heldOut.name);
    await writeFile(file, zipSync({ 'other.npy': images }));
    await expect(openDataset(file, options)).rejects.toThrow(/no array of images/);
    await writeFile(file, Buffer.from('PK nonsense'));
    await expect(openDataset(file, options)).rejects.toMatchObject({ code: 'format' });
  });

  test('folders of images: classes, no images, a class without images, no folder', async () => {
    const place = await folder('pictures');
    const png = await sharp({ create: { width: 4, height: 3, channels: 3, background: '#102030' } })
      .png()
      .toBuffer();
    for (const [name, files] of Object.entries({ b: 4, a: 4 })) {
      await folder(`pictures/${name}`);
      for (let i = 0; i < files; i++) await writeFile(path.join(place, name, `${i}.png`), png);
    }
    const { train, heldOut } = await openDataset(place, options);
    expect(train.classNames).toEqual(['a', 'b']);
    expect(train.labels.length + heldOut.labels.length).toBe(8);
    expect([...(await train.image(0)).data.subarray(0, 3)]).toEqual([16, 32, 48]);
    await folder('pictures/empty');
    await expect(openDataset(place, options)).rejects.toThrow(/empty.*there are no images/s);
    await expect(openDataset(await folder('nothing'), options)).rejects.toThrow(/there are no images/);
    await expect(openDataset(path.join(home, 'missing'), options)).rejects.toThrow(/cannot be opened/);
  });
});

test('an order visits every image once an epoch, differs by epoch and seed, and can be entered anywhere', () => {
  const order = new EpochOrder({ length: 50, seed: 3 });
  const first = Array.from({ length: 50 }, (_, i) => order.at(i));
  const second = Array.from({ length: 50 }, (_, i) => order.at(50 + i));
  for (const epoch of [first, second])
    expect([...epoch].sort((a, b) => a - b)).toEqual([...Array(50).keys()]);
  expect(second).not.toEqual(first);
  expect(new EpochOrder({ length: 50, seed: 4 }).batch(0, 50)).not.toEqual(first);
  expect(new EpochOrder({ length: 50, seed: 3 }).batch(7, 8)).toEqual([...first, ...second].slice(56, 64));
});

describe('views', () => {
  const image: RgbImage = {
    data: Uint8Array.from({ length: 3 * 20 * 20 }, (_, i) => i % 251),
    width: 20,
    height: 20,
  };

  test('training views follow from seed and position, and are where they may be', () => {
    const view = { size: 16, fit: 'crop', zoom: 0.8, flip: true } as const;
    const draw = (position: number) => trainingView(image, { ...view, seed: 1, position });
    expect(draw(5)).toEqual(draw(5));
    const different = new Set(
      Array.from({ length: 60 }, (_, i) => Buffer.from(draw(i).data).toString('hex')),
    );
    // 1, 4, 9, 16 or 25 places by the size drawn, mirrored or not: 110 views, the first of them often.
    expect(different.size).toBeGreaterThan(30);
    expect(() => trainingView(image, { ...view, zoom: 0, seed: 1, position: 0 })).toThrow(/zoom/);
  });

  test('ten crops: corners and middle of the larger square, and of its mirror image', () => {
    const views = codeViews(image, { size: 16, fit: 'crop', views: 'ten-crop' });
    expect(views).toHaveLength(10);
    const mirrored = codeViews(flipImage(image), { size: 16, fit: 'crop', views: 'ten-crop' });
    expect(views[5].data).toEqual(mirrored[0].data);
    // The top right corner is the mirror image of the top left one of the mirror image.
    expect(flipImage(views[1]).data).toEqual(views[5].data);
  });
});

test('shapes follow from seed and number, and classes take turns', async () => {
  const [one, other] = [
    shapesDataset({ images: 20, size: 12 }),
    shapesDataset({ images: 20, size: 12, seed: 1 }),
  ];
  expect((await one.image(13)).data).toEqual((await shapesDataset({ images: 20, size: 12 }).image(13)).data);
  expect((await one.image(13)).data).not.toEqual((await other.image(13)).data);
  expect([...one.labels.subarray(8, 12)]).toEqual([8, 9, 0, 1]);
});

test('a data set in memory refuses bytes that do not fit', () => {
  const base = {
    name: 'x',
    classNames: ['a'],
    labels: Int32Array.of(0),
    height: 2,
    width: 2,
    channels: 1,
  } as const;
  expect(() => new MemoryDataset({ ...base, pixels: new Uint8Array(3) })).toThrow(/not 1 images/);
  const labels = Int32Array.of(1);
  expect(() => new MemoryDataset({ ...base, labels, pixels: new Uint8Array(4) })).toThrow(/class 1/);
});

test('transparent pictures are laid on the background', async () => {
  const place = await folder('glass');
  await folder('glass/a');
  const clear = {
    create: { width: 2, height: 2, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
  } as const;
  for (const name of ['1.png', '2.webp']) await sharp(clear).toFile(path.join(place, 'a', name));
  const first = async (options: object) => {
    const { heldOut } = await openDataset(place, { heldOut: 0.5, seed: 1, ...options });
    return [...(await heldOut.image(0)).data.subarray(0, 3)];
  };
  expect(await first({})).toEqual([9, 9, 9]); // as Pillow's convert('RGB')
  expect(await first({ background: [255, 255, 255] })).toEqual([255, 255, 255]);
  expect(await first({ background: [1, 20, 200] })).toEqual([1, 20, 200]);
});

test('an image that is larger than the square it is laid on is shrunk as Pillow shrinks', () => {
  const image: RgbImage = {
    data: Uint8Array.from({ length: 3 * 30 * 30 }, (_, i) => (i * i) % 251),
    width: 30,
    height: 30,
  };
  expect(padImage(image, 20)).toEqual(centerCrop(image, 20)); // of a square nothing is cut off
  const wide = padImage({ data: new Uint8Array(3 * 40 * 10).fill(90), width: 40, height: 10 }, 20);
  const rows = Array.from({ length: 20 }, (_, y) => new Set(wide.data.subarray(60 * y, 60 * (y + 1))));
  expect(rows.map((row) => [...row])).toEqual(
    Array.from({ length: 20 }, (_, y) => [y >= 7 && y < 12 ? 90 : 0]),
  );
});
