import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readZip } from '@detailflow/checkpoint';
import { openFile } from '@detailflow/checkpoint/node';
import { type ByteSource, bytesSource, DetailFlowError, fileLimits } from '@detailflow/core';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeNpy } from './npy';
import { openNpz } from './npz';
import { npzDataset } from './npz-dataset';
import { NpzWriter, writeNpz } from './npz-writer';

const count = 40;
const numbers = Uint8Array.from({ length: count * 12 }, (_, i) => (i * 37) % 251);
const images = writeNpy({ shape: [count, 2, 2, 3], data: numbers });
const stored = zipSync({ 'a.npy': images }, { level: 0 });
const deflated = zipSync({ 'a.npy': images }, { level: 9 });
const arrayOf = async (bytes: Uint8Array) => (await openNpz(bytesSource(bytes, 'a.npz'))).get('a')!;

describe.each([
  ['stored', stored, true],
  ['deflated', deflated, false],
])('%s', (_name, bytes, isSeekable) => {
  test('whole arrays and rows, in any order', async () => {
    const array = await arrayOf(bytes);
    expect([array.dtype, array.shape, array.byteLength]).toEqual(['uint8', [count, 2, 2, 3], count * 12]);
    expect(array.isSeekable).toBe(isSeekable);
    expect(await array.read()).toEqual({ dtype: 'uint8', shape: [count, 2, 2, 3], data: numbers });
    for (const [first, rows] of [
      [0, 1],
      [7, 3],
      [39, 1],
      [2, 2],
      [5, 0],
    ]) {
      const { shape, data } = await array.read(first, rows);
      expect(shape).toEqual([rows, 2, 2, 3]);
      expect(data).toEqual(numbers.slice(first * 12, (first + rows) * 12));
    }
    await expect(array.read(39, 2)).rejects.toThrow(/not among the 40/);
    await expect(array.read(-1)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('reads that overlap in time do not mix', async () => {
    const array = await arrayOf(bytes);
    const found = await Promise.all([30, 3, 20].map((row) => array.read(row, 2)));
    expect(found.map(({ data }) => data[0])).toEqual([30, 3, 20].map((row) => numbers[row * 12]));
  });

  test('cut off', async () => {
    for (const keep of [0, 10, bytes.length - 30, bytes.length - 1]) {
      await expect(arrayOf(bytes.slice(0, keep))).rejects.toMatchObject({ code: 'format' });
    }
  });
});

test('deflated data that are broken, or fewer than stated', async () => {
  const broken = deflated.slice();
  broken.fill(0xff, 60, 120);
  await expect(arrayOf(broken).then((array) => array.read())).rejects.toMatchObject({ code: 'format' });
  // The directory and the local header say one byte more than there is, and so does the array.
  const longer = writeNpy({ shape: [count * 12 + 1], data: new Uint8Array(count * 12 + 1) });
  const lying = zipSync({ 'a.npy': longer.subarray(0, longer.length - 1) }, { level: 9 });
  const view = new DataView(lying.buffer);
  const end = lying.length - 22;
  const directory = view.getUint32(end + 16, true);
  view.setUint32(directory + 24, longer.length, true);
  view.setUint32(22, longer.length, true);
  await expect(arrayOf(lying).then((array) => array.read())).rejects.toThrow(/fewer than the/);
});

const fixture = (name: string) =>
  bytesSource(
    new Uint8Array(readFileSync(new URL(`../../../tests/fixtures/npz/${name}`, import.meta.url))),
    name,
  );

test.each(['crc_stored.npz', 'crc_deflated.npz'])(
  '%s: one bit is another, and the entry is named',
  async (name) => {
    const array = (await openNpz(fixture(name))).get('x')!;
    expect(() => array.dtype).toThrow(/x\.npy: .*CRC-32/);
    await expect(array.read()).rejects.toMatchObject({ code: 'format', file: name, entry: 'x.npy' });
  },
);

test.each([
  ['withstr.npz', 'names', /holds "<U3"/],
  ['withobj.npz', 'meta', /Python objects, which are never unpickled/],
])('%s: only asking for the entry that cannot be read fails', async (name, other, message) => {
  const arrays = await openNpz(fixture(name));
  const read = async (key: string) => {
    const { dtype, shape, data } = await arrays.get(key)!.read();
    return [dtype, shape, Array.from(data as ArrayLike<number | bigint>, Number)];
  };
  expect(await read('mu')).toEqual(['float64', [3], [0, 1, 2]]);
  expect(await read('sigma')).toEqual(['float64', [3, 3], [0, 1, 2, 3, 4, 5, 6, 7, 8]]);
  expect(await read('lab')).toEqual(['int64', [2], [1, 2]]);
  expect(await read('s')).toEqual(['int32', [], [5]]);
  expect(await read('e')).toEqual(['float32', [0, 4], []]);
  const unreadable = arrays.get(other)!;
  await expect(unreadable.read()).rejects.toMatchObject({ code: 'dtype', file: `${name}/${other}.npy` });
  for (const key of ['dtype', 'shape', 'byteLength', 'isSeekable'] as const) {
    expect(() => unreadable[key]).toThrow(message);
  }
});

test('large arrays: a flipped bit is found where all of it is read, at once or row after row', async () => {
  const rows = 50;
  const data = Uint8Array.from({ length: rows * 4000 }, (_, i) => (i * 31) % 253);
  const npy = writeNpy({ shape: [rows, 4000], data });
  for (const level of [0, 6] as const) {
    const bytes = zipSync(
      { 'a.npy': npy, 'b.npy': writeNpy({ shape: [1], data: Uint8Array.of(3) }) },
      { level },
    );
    const start = new DataView(bytes.buffer).getUint32(bytes.length - 6, true);
    bytes[start + 16] ^= 1; // its checksum in the directory
    const open = async () => openNpz(bytesSource(bytes, 'a.npz'));
    const array = (await open()).get('a')!;
    expect(array.shape).toEqual([rows, 4000]);
    await expect(array.read()).rejects.toThrow(/CRC-32/);
    const byRows = (await open()).get('a')!;
    for (let row = 0; row < rows - 1; row++) await byRows.read(row, 1);
    await expect(byRows.read(rows - 1, 1)).rejects.toMatchObject({ code: 'format', entry: 'a.npy' });
    expect((await (await open()).get('b')!.read()).data).toEqual(Uint8Array.of(3));
  }
});

test('a failing disk is no damaged entry', async () => {
  const source = bytesSource(stored, 'a.npz');
  const failing: ByteSource = {
    ...source,
    read: (offset, length) =>
      length > 200 ? Promise.reject(new DetailFlowError('io', 'gone')) : source.read(offset, length),
  };
  await expect(openNpz(failing)).rejects.toMatchObject({ code: 'io' });
});

test('rows of an array in Fortran order are refused, the whole is turned', async () => {
  const bytes = writeNpy({ shape: [2, 3], data: Float32Array.of(1, 4, 2, 5, 3, 6) });
  const text = new TextDecoder('latin1').decode(bytes).replace('False', 'True ');
  const array = await arrayOf(zipSync({ 'a.npy': Uint8Array.from(text, (char) => char.charCodeAt(0)) }));
  expect([...(await array.read()).data]).toEqual([1, 2, 3, 4, 5, 6]);
  await expect(array.read(1, 1)).rejects.toMatchObject({ code: 'unsupported' });
});

test('a file of 4.3 GB: rows are found without reading what lies before them', async () => {
  const rows = 22_000;
  const row = 256 * 256 * 3;
  const writer = new NpzWriter();
  const head = writer.array('arr_0', 'uint8', [rows, 256, 256, 3]);
  const size = rows * row;
  // The layout of such a file, with its data left out: row i holds i % 256 everywhere.
  const tail = tailOfHugeFile(writer, size);
  let bytesRead = 0;
  const source: ByteSource = {
    name: 'huge.npz',
    size: head.length + size + tail.length,
    async read(offset, length) {
      bytesRead += length;
      return Uint8Array.from({ length }, (_, i) => {
        const at = offset + i;
        if (at < head.length) return head[at];
        if (at < head.length + size) return Math.floor((at - head.length) / row) % 256;
        return tail[at - head.length - size];
      });
    },
  };
  const dataset = await npzDataset(await openNpz(source), 'huge.npz');
  expect(dataset.labels).toHaveLength(rows);
  const image = await dataset.image(21_999);
  expect([image.width, image.height, image.data.length]).toEqual([256, 256, row]);
  expect(new Set(image.data)).toEqual(new Set([21_999 % 256]));
  expect(bytesRead).toBeLessThan(1e6);
});

/** Counts data into the writer without making them: a megabyte of zeros again and again. */
function tailOfHugeFile(writer: NpzWriter, size: number): Uint8Array {
  const zeros = new Uint8Array(2 ** 20);
  for (let left = size; left > 0; left -= zeros.length) {
    writer.data(left < zeros.length ? zeros.subarray(0, left) : zeros);
  }
  return writer.finish();
}

test.each([
  ['no images', { mu: { data: new Float64Array(3), shape: [3] } }, 'format'],
  ['images of another type', { arr_0: { data: new Float32Array(12), shape: [1, 2, 2, 3] } }, 'dtype'],
  ['four channels', { arr_0: { data: new Uint8Array(16), shape: [1, 2, 2, 4] } }, 'shape'],
  ['one axis', { arr_0: { data: new Uint8Array(16), shape: [16] } }, 'shape'],
  ['no image at all', { arr_0: { data: new Uint8Array(0), shape: [0, 2, 2, 3] } }, 'shape'],
  [
    'classes of other images',
    {
      arr_0: { data: new Uint8Array(12), shape: [1, 2, 2, 3] },
      arr_1: { data: new Int32Array(2), shape: [2] },
    },
    'shape',
  ],
  [
    'classes that are no integers',
    {
      arr_0: { data: new Uint8Array(12), shape: [1, 2, 2, 3] },
      arr_1: { data: Float32Array.of(0.5), shape: [1] },
    },
    'dtype',
  ],
  [
    'a class below 0',
    {
      arr_0: { data: new Uint8Array(12), shape: [1, 2, 2, 3] },
      arr_1: { data: Int32Array.of(-1), shape: [1] },
    },
    'format',
  ],
] as const)('a data set with %s is refused', async (_name, arrays, code) => {
  const bytes = writeNpz(arrays as Parameters<typeof writeNpz>[0]);
  const opened = openNpz(bytesSource(bytes, 'set.npz')).then((found) => npzDataset(found, 'set.npz'));
  await expect(opened).rejects.toMatchObject({ code });
});

describe('written files', () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(path.join(tmpdir(), 'npz-'));
  });
  afterAll(() => rm(home, { recursive: true }));

  test('are read again, from disk, too', async () => {
    const file = path.join(home, 'a.npz');
    const mu = { data: Float64Array.of(1, Math.PI), shape: [2] };
    await writeFile(file, writeNpz({ mu, arr_0: { data: numbers, shape: [count, 12] } }));
    const source = await openFile(file);
    try {
      const arrays = await openNpz(source);
      expect([...arrays.keys()]).toEqual(['mu', 'arr_0']);
      expect((await arrays.get('mu')!.read()).data).toEqual(mu.data);
      expect((await arrays.get('arr_0')!.read(3, 1)).data).toEqual(numbers.slice(36, 48));
    } finally {
      await source.close();
    }
  });

  test('hold what the shape says, once each', () => {
    const writer = new NpzWriter();
    writer.array('a', 'uint8', [4]);
    expect(() => writer.data(new Uint8Array(5))).toThrow(/more values/);
    writer.data(new Uint8Array(3));
    expect(() => writer.array('b', 'uint8', [1])).toThrow(/1 bytes less/);
    expect(() => writer.finish()).toThrow(/1 bytes less/);
    writer.data(new Uint8Array(1));
    expect(() => writer.array('a', 'uint8', [1])).toThrow(/already/);
  });

  test('have only names that are read again, however long or strange', async () => {
    const { nameBytes } = fileLimits.zip;
    const names = ['a/b', 'ñ', '日本', 'x'.repeat(nameBytes - 4), ' ', 'a.npy', '__proto__'];
    const writer = new NpzWriter();
    const parts = names.flatMap((name) => [writer.array(name, 'uint8', [1]), writer.data(Uint8Array.of(9))]);
    const arrays = await openNpz(bytesSource(Buffer.concat([...parts, writer.finish()]), 'a.npz'));
    expect([...arrays.keys()]).toEqual(names);
    for (const array of arrays.values()) expect((await array.read()).data).toEqual(Uint8Array.of(9));
    for (const name of ['../a', '/a', 'a\\b', 'a\0', 'a//b', 'C:a', './a']) {
      expect(() => new NpzWriter().array(name, 'uint8', [1])).toThrow(
        expect.objectContaining({ code: 'invalid-argument' }),
      );
    }
    expect(() => new NpzWriter().array('x'.repeat(nameBytes - 3), 'uint8', [1])).toThrow(
      expect.objectContaining({ code: 'limit' }),
    );
  });

  test('hold as many arrays and as long a directory as is read', async () => {
    const { members, nameBytes, directoryBytes } = fileLimits.zip;
    const limit = expect.objectContaining({ code: 'limit' });
    const writer = new NpzWriter();
    const parts = Array.from({ length: members }, (_, i) => writer.array(`${i}`, 'uint8', [0]));
    expect(() => writer.array('one more', 'uint8', [0])).toThrow(limit);
    const bytes = Buffer.concat([...parts, writer.finish()]);
    expect((await readZip(bytesSource(bytes, 'a.npz'))).size).toBe(members);

    const long = new NpzWriter();
    const name = (i: number) => `${i}`.padEnd(nameBytes - 4, 'x');
    const fitting = Math.floor(directoryBytes / (74 + nameBytes));
    for (let i = 0; i < fitting; i++) long.array(name(i), 'uint8', [0]);
    expect(() => long.array(name(fitting), 'uint8', [0])).toThrow(limit);
  });

  const hasUnzip = (() => {
    try {
      execFileSync('python3', ['-c', 'import zipfile']);
      return true;
    } catch {
      console.warn('WRITTEN .npz FILES ARE NOT CHECKED BY PYTHON: there is no python3');
      return false;
    }
  })();
  test.runIf(hasUnzip)("pass the check of Python's zipfile", async () => {
    const file = path.join(home, 'b.npz');
    await writeFile(file, writeNpz({ a: { data: numbers.subarray(1), shape: [count * 12 - 1] } }));
    const program = `import zipfile,sys; z=zipfile.ZipFile(sys.argv[1]); print(z.testzip(), z.namelist())`;
    expect(execFileSync('python3', ['-c', program, file], { encoding: 'utf8' }).trim()).toBe(
      "None ['a.npy']",
    );
  });
});

test('one image in colours is not taken for many grey ones', async () => {
  const one = writeNpy({ shape: [6, 5, 3], data: new Uint8Array(90) });
  const arrays = await openNpz(bytesSource(zipSync({ 'arr_0.npy': one }), 'one.npz'));
  await expect(npzDataset(arrays, 'one.npz')).rejects.toMatchObject({
    ...{ code: 'shape', message: expect.stringMatching(/looks like one image.*give \[1, 6, 5, 3\]/) },
  });
});
