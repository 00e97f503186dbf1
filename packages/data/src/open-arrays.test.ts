import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeNpy } from './npy';
import { openDataset } from './open-dataset';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'arrays-'));
});
afterAll(async () => rm(home, { recursive: true }));

const options = { heldOut: 0.25, seed: 1 };

async function folder(name: string, files: Record<string, Uint8Array | string>): Promise<string> {
  const root = path.join(home, name);
  for (const [file, bytes] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true });
    await writeFile(path.join(root, file), bytes);
  }
  return root;
}

const reasons = ({ unused }: { unused: readonly { reason: string; examples: readonly string[] }[] }) =>
  Object.fromEntries(unused.map(({ reason, examples }) => [reason, examples]));

describe('IDX', () => {
  const idx = (dims: number[], data: number[]) => {
    const head = Buffer.alloc(4 + 4 * dims.length);
    head.set([0, 0, 8, dims.length]);
    for (const [i, extent] of dims.entries()) head.writeUInt32BE(extent, 4 + 4 * i);
    return Buffer.concat([head, Buffer.from(data)]);
  };
  const images = (...shades: number[]) => idx([shades.length, 1, 1], shades);
  const labels = (...classes: number[]) => idx([classes.length], classes);
  const shade = async (dataset: { image(i: number): Promise<{ data: Uint8Array }> }, i: number) =>
    (await dataset.image(i)).data[0];

  test.each<[string, Record<string, Uint8Array>]>([
    [
      'as Kaggle has it, with a dot',
      {
        'train-images.idx3-ubyte': images(1, 2),
        'train-labels.idx1-ubyte': labels(1, 0),
        't10k-images.idx3-ubyte.gz': gzipSync(images(9)),
        't10k-labels.idx1-ubyte.gz': gzipSync(labels(1)),
      },
    ],
    [
      'every file in a folder of its name',
      {
        'train-images-idx3-ubyte/train-images-idx3-ubyte': images(1, 2),
        'train-labels-idx1-ubyte/train-labels.idx1-ubyte': labels(1, 0),
        't10k-images-idx3-ubyte/t10k-images-idx3-ubyte': images(9),
        't10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte': labels(1),
      },
    ],
    [
      'with a prefix and "test", inside MNIST/raw',
      {
        'MNIST/raw/emnist-digits-train-images-idx3-ubyte': images(1, 2),
        'MNIST/raw/emnist-digits-train-labels-idx1-ubyte': labels(1, 0),
        'MNIST/raw/emnist-digits-test-images-idx3-ubyte': images(9),
        'MNIST/raw/emnist-digits-test-labels-idx1-ubyte': labels(1),
      },
    ],
    [
      'gzipped without saying so, and unpacked with the old name',
      {
        'train-images-idx3-ubyte': gzipSync(images(1, 2)),
        'train-labels-idx1-ubyte.gz': labels(1, 0),
        't10k-images-idx3-ubyte': images(9),
        't10k-labels-idx1-ubyte': labels(1),
      },
    ],
  ])('%s', async (name, files) => {
    const { train, heldOut, use } = await openDataset(await folder(`idx ${name}`, files), options);
    expect([[...train.labels], [...heldOut.labels]]).toEqual([[1, 0], [1]]);
    expect([await shade(train, 0), await shade(train, 1), await shade(heldOut, 0)]).toEqual([1, 2, 9]);
    expect([use.images, use.classes, use.unused]).toEqual([3, 2, []]);
  });

  test('copies and other files are counted; two sets in one folder are told apart; a test part alone', async () => {
    const root = await folder('idx copies', {
      'train-images-idx3-ubyte': images(1, 2, 3, 4),
      'train-images-idx3-ubyte.gz': gzipSync(images(5, 6, 7, 8)),
      'train-labels-idx1-ubyte': labels(0, 1, 0, 1),
      'readme.txt': 'x',
    });
    const { use, train, whole } = await openDataset(root, options);
    expect(await shade(whole!, 0)).toBe(1);
    expect(train.labels.length).toBeLessThan(4);
    expect(reasons(use)).toEqual({ 'no part of the data set': ['readme.txt', 'train-images-idx3-ubyte.gz'] });
    const two = await folder('idx two', {
      'emnist-letters-train-images-idx3-ubyte': images(1),
      'emnist-digits-train-images-idx3-ubyte': images(1),
    });
    await expect(openDataset(two, options)).rejects.toThrow(/"emnist-digits-", "emnist-letters-"/);
    const alone = await folder('idx test', {
      't10k-images.idx3-ubyte': images(1, 2),
      't10k-labels.idx1-ubyte': labels(1, 0),
    });
    expect((await openDataset(alone, options)).use.images).toBe(2);
    const unlabelled = await folder('idx unlabelled', { 'train-images.idx3-ubyte': images(1, 2) });
    await expect(openDataset(unlabelled, options)).rejects.toThrow(/neither train-labels-idx1-ubyte nor/);
  });
});

/** Byte i of image n, red, green and blue plane one after the other, as tools/reference/cifar-pickles.py writes it. */
const planes = (n: number) => Buffer.from(Array.from({ length: 3072 }, (_, i) => (7 * i + 100 * n) % 256));
const pixel = (n: number, i: number) => [0, 1, 2].map((c) => (7 * (i + 1024 * c) + 100 * n) % 256);
const pickled = (name: string) =>
  readFile(new URL(`../../../tests/fixtures/cifar-pickles/${name}`, import.meta.url));

async function expectCifar(
  dataset: { labels: Int32Array; image(i: number): Promise<{ data: Uint8Array; width: number }> },
  labels: number[],
) {
  expect([...dataset.labels]).toEqual(labels);
  for (const n of [0, 1]) {
    const { data, width } = await dataset.image(n);
    expect([width, data.length]).toEqual([32, 3072]);
    for (const i of [0, 1, 500, 1023]) expect([...data.subarray(3 * i, 3 * i + 3)]).toEqual(pixel(n, i));
  }
}

describe('CIFAR', () => {
  const record = (n: number, ...labels: number[]) => Buffer.concat([Buffer.from(labels), planes(n)]);

  test('CIFAR-100, binary: the fine class counts', async () => {
    const root = await folder('cifar-100-binary', {
      'train.bin': Buffer.concat([record(0, 0, 3), record(1, 19, 99)]),
      'test.bin': Buffer.concat([record(0, 0, 7), record(1, 1, 8)]),
      'fine_label_names.txt': Array.from({ length: 100 }, (_, i) => `fine ${i}\n`).join(''),
      'coarse_label_names.txt': 'x\n',
    });
    const { train, heldOut, use } = await openDataset(root, options);
    await expectCifar(train, [3, 99]);
    await expectCifar(heldOut, [7, 8]);
    expect(train.classNames[99]).toBe('fine 99');
    expect(reasons(use)).toEqual({ 'no part of the data set': ['coarse_label_names.txt'] });
  });

  test.each([0, 1, 2, 3, 4, 5])('CIFAR-10 for Python, pickled by protocol %i', async (protocol) => {
    const bytes = await pickled(`protocol-${protocol}`);
    const root = await folder(`pickled ${protocol}/cifar-10-batches-py`, {
      ...{ data_batch_1: bytes, data_batch_2: bytes, test_batch: bytes },
      'readme.html': '<p>',
    });
    const { train, heldOut, use } = await openDataset(path.dirname(root), options);
    await expectCifar(train, [6, 9, 6, 9]);
    await expectCifar(heldOut, [6, 9]);
    expect([use.images, use.classes]).toEqual([6, 10]);
    expect(reasons(use)).toEqual({ 'no part of the data set': ['readme.html'] });
  });

  test('CIFAR-10 as its authors pickled it, by Python 2', async () => {
    const text = (value: string) => Buffer.from(value, 'latin1');
    const short = (value: string) => Buffer.concat([text('U'), Buffer.of(value.length), text(value)]);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(6144);
    const bytes = Buffer.concat([
      text('\x80\x02}q\x01('),
      ...[short('batch_label'), text('q\x02'), short('training batch 1 of 5'), text('q\x03')],
      ...[short('labels'), text('q\x04]q\x05(K\x06K\x09e'), short('data'), text('q\x06')],
      text('cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09'),
      text('(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b'),
      text('(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'),
      ...[
        size,
        planes(0),
        planes(1),
        text('tb'),
        short('filenames'),
        text('q\x0c]q\x0d('),
        short('a'),
        short('b'),
      ],
      text('eu.'),
    ]);
    const root = await folder('python 2', { data_batch_1: bytes });
    await expectCifar((await openDataset(root, options)).whole!, [6, 9]);
  });

  test('CIFAR-100 for Python, with keys of bytes', async () => {
    const root = await folder('cifar-100-python', {
      ...{ train: await pickled('hundred'), test: await pickled('hundred') },
      ...{ meta: await pickled('hundred-meta'), 'file.txt~': 'x' },
    });
    const { train, heldOut, use } = await openDataset(root, options);
    await expectCifar(train, [3, 99]);
    await expectCifar(heldOut, [3, 99]);
    expect(train.classNames[3]).toBe('fine 3');
    expect(reasons(use)).toEqual({ 'no part of the data set': ['file.txt~'] });
  });

  test.each([
    ['wrong-float', /data: is an array of f4; pixels are u1/],
    ['wrong-fortran', /data: is an array of shape \[2,3072\].*C order/],
    ['wrong-flat', /data: is an array of shape \[6144\]/],
    ['hundred-meta', /data: is no numpy array/],
  ])('a pickle that holds something else is refused: %s', async (name, message) => {
    const root = await folder(`pickled ${name}`, { data_batch_1: await pickled(name) });
    await expect(openDataset(root, options)).rejects.toThrow(message);
  });

  test('a class beyond the ten, and a pickle that is cut off or calls something', async () => {
    const beyond = await folder('beyond', { 'data_batch_1.bin': record(0, 10) });
    await expect(openDataset(beyond, options)).rejects.toThrow(/class 10/);
    const cut = await folder('cut', { data_batch_1: (await pickled('protocol-2')).subarray(0, 900) });
    await expect(openDataset(cut, options)).rejects.toMatchObject({ code: 'format' });
    const call = await folder('call', {
      data_batch_1: Buffer.from('\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.', 'latin1'),
    });
    await expect(openDataset(call, options)).rejects.toThrow(/holds no dict/);
  });

  test('files called train and test that are something else do not stand in the way', async () => {
    const root = await folder('other train', { train: 'a list of files', test: 'another' });
    await expect(openDataset(root, options)).rejects.toThrow(/there are no images in this folder/);
  });
});

describe('npz', () => {
  const npz = async (name: string, arrays: Record<string, [number[], number[]]>) => {
    const file = path.join(home, `${name}.npz`);
    const members = Object.entries(arrays).map(([key, [shape, values]]) => {
      const isImages = shape.length > 2;
      const data = isImages ? Uint8Array.from(values) : Int32Array.from(values);
      return [`${key}.npy`, writeNpy({ shape, data })];
    });
    await writeFile(file, zipSync(Object.fromEntries(members)));
    return file;
  };
  const shades = async (dataset: { labels: Int32Array; image(i: number): Promise<{ data: Uint8Array }> }) => {
    const found: number[] = [];
    for (let i = 0; i < dataset.labels.length; i++) found.push((await dataset.image(i)).data[0]);
    return found;
  };
  const one = (...values: number[]): [number[], number[]] => [[values.length, 1, 1], values];
  const column = (...values: number[]): [number[], number[]] => [[values.length, 1], values];

  test.each([
    ['as Keras names them', ['x_train', 'y_train', 'x_test', 'y_test']],
    ['with capitals', ['X_train', 'Y_train', 'X_test', 'Y_test']],
    ['as MedMNIST names them', ['train_images', 'train_labels', 'val_images', 'val_labels']],
  ])('two parts %s', async (name, [x, y, xTest, yTest]) => {
    const arrays = {
      [x]: one(1, 2),
      [y]: column(0, 3),
      [xTest]: one(9),
      [yTest]: column(2),
      extra: column(1),
    };
    const { train, heldOut, use } = await openDataset(await npz(name, arrays), options);
    expect([[...train.labels], [...heldOut.labels]]).toEqual([[0, 3], [2]]);
    expect([await shades(train), await shades(heldOut)]).toEqual([[1, 2], [9]]);
    expect(train.name).not.toBe(heldOut.name);
    expect([use.images, use.classes]).toEqual([3, 4]);
    expect(reasons(use)).toEqual({ 'an array that is not used': ['extra'] });
  });

  test('a test part alone; three parts; images without classes; statistics beside images', async () => {
    const alone = await openDataset(await npz('alone', { x_test: one(1, 2), y_test: column(1, 0) }), options);
    expect([...alone.whole!.labels]).toEqual([1, 0]);
    const three = {
      ...{ train_images: one(1), train_labels: column(0), val_images: one(2), val_labels: column(0) },
      ...{ test_images: one(3), test_labels: column(0) },
    };
    expect(reasons((await openDataset(await npz('three', three), options)).use)).toEqual({
      'an array that is not used': ['test_images', 'test_labels'],
    });
    const reference = {
      arr_0: one(1, 2),
      mu: column(1),
      sigma: column(1),
      mu_s: column(1),
      sigma_s: column(1),
    };
    const { whole, use } = await openDataset(await npz('reference', reference), options);
    expect([[...whole!.labels], use.unused]).toEqual([[0, 0], []]);
    const unnamed = await openDataset(
      await npz('unnamed', { images: one(1, 2), classes: column(0, 1) }),
      options,
    );
    expect(reasons(unnamed.use)).toEqual({ 'an array that is not used': ['classes'] });
  });

  test('classes that are no whole numbers, negative or too large are refused, whatever their type', async () => {
    const images = writeNpy({ shape: [2, 1, 1], data: Uint8Array.of(1, 2) });
    const longs = (...values: bigint[]) => {
      const header = `{'descr': '<i8', 'fortran_order': False, 'shape': (${values.length},), }`.padEnd(117);
      const start = Buffer.from(`\x93NUMPY\x01\x00\x76\x00${header}\n`, 'latin1');
      return Buffer.concat([start, Buffer.from(BigInt64Array.from(values).buffer)]);
    };
    const wrong = async (name: string, data: Float32Array | Int32Array | Buffer) => {
      const file = path.join(home, `wrong ${name}.npz`);
      const labels = Buffer.isBuffer(data) ? data : writeNpy({ shape: [2], data });
      const members = { 'x_train.npy': images, 'y_train.npy': labels };
      await writeFile(file, zipSync(members));
      return openDataset(file, options);
    };
    await expect(wrong('float', Float32Array.of(0, 1))).rejects.toMatchObject({ code: 'dtype' });
    await expect(wrong('negative', Int32Array.of(0, -1))).rejects.toThrow(/class outside 0/);
    await expect(wrong('large', longs(0n, 2n ** 32n))).rejects.toThrow(/class outside 0/);
  });

  test('parts that do not fit are refused by name', async () => {
    const file = await npz('unfit', {
      x_train: one(1, 2),
      y_train: column(0),
      x_test: one(1),
      y_test: column(0),
    });
    await expect(openDataset(file, options)).rejects.toThrow(/1 classes for 2 images/);
  });
});
