import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parquetMetadataAsync } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ImageDataset } from './dataset';
import { openDataset } from './open-dataset';
import { openParquet } from './open-parquet';
import { dataPages } from './parquet-pages';

/** Written by pyarrow: tools/reference/parquet.py. */
const fixture = (name: string) =>
  new URL(`../../../tests/fixtures/parquet/${name}`, import.meta.url).pathname;
const ways = ['snappy', 'plain', 'version-2', 'indexed', 'dictionary'];
const groups = [
  ...['snappy', 'snappy-no-dictionary', 'snappy-version-2', 'zstd'],
  ...['plain', 'plain-no-dictionary', 'lengths'],
];

let home: string;
let expected: { label: number; pixel: number[] | null }[];
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'parquet-'));
  expected = JSON.parse(await readFile(fixture('pages.json'), 'utf8'));
});
afterAll(() => rm(home, { recursive: true }));

const both = [...ways.map((way) => `pages/${way}`), ...groups.map((way) => `groups/${way}`)];

describe.each(both)('%s', (way) => {
  const file = fixture(`${way}.parquet`);
  const copy = (name: string) => path.join(home, `${way.replace('/', '-')}-${name}.parquet`);

  test.each([1, 200, 2 ** 20])('rows in any order, at once, %i bytes being kept', async (mostHeld) => {
    const opened = await openParquet(file, { mostHeld });
    const images = opened?.train as ImageDataset;
    expect([...images.labels]).toEqual(expected.map(({ label }) => label));
    const order = Array.from({ length: 120 }, (_, i) => (i * 37) % 40);
    await Promise.all(
      order.map(async (index) => {
        const { pixel } = expected[index];
        if (pixel) {
          expect([...(await images.image(index)).data.subarray(0, 3)], `${index}`).toEqual(pixel);
          return;
        }
        await expect(images.image(index)).rejects.toMatchObject({
          message: expect.stringMatching(/image 17.*has no bytes of an image/),
        });
      }),
    );
    for (const index of order.slice(0, 40).filter((one) => expected[one].pixel))
      expect([...(await images.image(index)).data.subarray(0, 3)]).toEqual(expected[index].pixel);
    await images.close?.();
  });

  test('cut off at every sixteenth of its bytes: refused, and the file is named', async () => {
    const whole = await readFile(file);
    for (let part = 0; part < 16; part++) {
      const cut = copy(`${part}`);
      await writeFile(cut, whole.subarray(0, Math.floor((part * whole.length) / 16)));
      await expect(openDataset(cut, { heldOut: 0.25, seed: 0 }), `${part}/16`).rejects.toMatchObject({
        ...{ code: 'format', file: cut },
      });
    }
  });

  test('damaged anywhere: every image is the right one or is refused', async () => {
    const whole = await readFile(file);
    for (let part = 0; part < 16; part++) {
      const bytes = Buffer.from(whole);
      const start = Math.floor(((part + 0.3) * whole.length) / 16);
      bytes.fill(0xff, start, start + 24);
      const damaged = copy(`damaged-${part}`);
      await writeFile(damaged, bytes);
      let images: ImageDataset;
      try {
        images = (await openParquet(damaged, {}))?.train as ImageDataset;
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/format|limit/), file: damaged });
        continue;
      }
      let right = 0;
      for (const [i, { pixel }] of expected.entries()) {
        try {
          const { data } = await images.image(i);
          if (pixel && [...data.subarray(0, 3)].join() === pixel.join()) right++;
        } catch (error) {
          expect(error, `${part} ${i}`).toMatchObject({
            code: expect.stringMatching(/format|unsupported|limit|io/),
          });
        }
      }
      expect(right, `${part}/16`).toBeGreaterThan(10);
      await images.close?.();
    }
  });
});

describe.each(both)('pages of %s', (way) => {
  const file = fixture(`${way}.parquet`);

  test('a page is found by headers, without what lies in it', async () => {
    const bytes = await readFile(file);
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    const metadata = await parquetMetadataAsync({
      byteLength: bytes.length,
      slice: (start: number, end?: number) => buffer.slice(start, end),
    });
    for (const { columns, num_rows: rows } of metadata.row_groups) {
      const column = columns.find(({ meta_data: meta }) => meta?.path_in_schema.join('.') === 'image.bytes');
      const meta = column?.meta_data as NonNullable<typeof column>['meta_data'] & object;
      const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length);
      const pages = (await dataPages(read, meta, Number(rows))) ?? [];
      expect(pages.length > 1).toBe(way.startsWith('pages'));
      expect(pages[0]).toMatchObject({ offset: Number(meta.data_page_offset), firstRow: 0 });
      const end =
        Number(meta.dictionary_page_offset || meta.data_page_offset) + Number(meta.total_compressed_size);
      const last = pages[pages.length - 1];
      expect(last.offset + last.size).toBe(end);
      for (const [i, page] of pages.slice(1).entries()) {
        expect(page.offset).toBe(pages[i].offset + pages[i].size);
        expect(page.firstRow).toBeGreaterThan(pages[i].firstRow);
      }
      // What does not add up is left to a reader of the whole column.
      expect(await dataPages(read, meta, Number(rows) + 1)).toBeUndefined();
      const torn = async (offset: number, length: number) =>
        (await read(offset, length)).map((byte) => byte ^ 0x5a);
      expect(await dataPages(torn, meta, Number(rows))).toBeUndefined();
    }
  });
});

test('more rows than a function takes arguments', async () => {
  const opened = await openParquet(fixture('many.parquet'), {});
  const images = opened?.train as ImageDataset;
  expect(images.labels.length).toBe(200_000);
  expect([...(await images.image(199_999)).data.subarray(0, 3)]).toEqual([1, 2, 3]);
  await expect(images.image(0)).rejects.toMatchObject({ code: 'format' });
  await images.close?.();
});

describe('files of a set that are numbered', () => {
  const set = async (...names: string[]) => {
    const folder = await mkdtemp(path.join(home, 'set-'));
    for (const name of names) await copyFile(fixture('pages/plain.parquet'), path.join(folder, name));
    return folder;
  };

  test('are told of where they are missing, and of the second of two parts', async () => {
    const folder = await set(
      ...['train-00000-of-00004.parquet', 'train-00002-of-00004-0a1b.parquet', 'dev-00001-of-00001.parquet'],
      'my-test.parquet',
    );
    const opened = await openParquet(folder, {});
    expect([opened?.train?.labels.length, opened?.test?.labels.length]).toEqual([80, 40]);
    expect(opened?.unused).toEqual([
      { reason: 'of another part than validation', count: 1, examples: ['my-test.parquet'] },
      {
        reason: 'missing of a numbered set',
        count: 2,
        examples: ['train-00001-of-00004', 'train-00003-of-00004'],
      },
    ]);
    await opened?.train?.close?.();
    await opened?.test?.close?.();
    // A file that is named alone is all that is wanted.
    const alone = await openParquet(path.join(folder, 'train-00000-of-00004.parquet'), {});
    expect(alone?.unused).toEqual([]);
    await alone?.train?.close?.();
  });

  test.each([
    ['train-00000-of-00001.parquet', 'train-00000-of-00002.parquet', /two divisions, of 1 and of 2/],
    [
      'train-00000-of-00001-0a1b.parquet',
      'train-00000-of-00001-ffff.parquet',
      /two files that are number 0 of 1/,
    ],
  ])('%s and %s: refused, their images would count twice', async (one, other, message) => {
    const folder = await set(one, other);
    await expect(openParquet(folder, {})).rejects.toMatchObject({
      ...{ code: 'format', file: folder, message: expect.stringMatching(message) },
    });
  });
});

describe('headers of pages', () => {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
  /** Fields one after another from 1 on, of 32 bits; numbers are doubled. */
  const fields = (...values: number[]) => values.flatMap((value) => [0x15, ...varint(2 * value)]);
  const pages = (...header: number[]) => {
    const bytes = Uint8Array.from([...header, ...Array(40).fill(0)]);
    const column = { data_page_offset: 0n, total_compressed_size: BigInt(bytes.length) };
    const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length);
    return dataPages(read, column as Parameters<typeof dataPages>[1], 1);
  };
  // Type, size unpacked, size; in a struct, values, encoding, and those of levels.
  const whole = [...fields(0, 10, 10), 0x2c, ...fields(1, 0, 3, 3), 0, 0];

  test('a whole one', async () => {
    expect(await pages(...whole)).toEqual([{ offset: 0, size: whole.length + 10, firstRow: 0 }]);
  });

  test('one that says that it unpacks to 2 GiB is refused before anything is read', async () => {
    const header = [...fields(0, 2 ** 31 - 1, 10), 0x2c, ...fields(1, 0, 3, 3), 0, 0];
    await expect(pages(...header)).rejects.toThrow(/the page at byte 0 unpacks to 2147483647 bytes/);
  });

  test.each<[string, number[]]>([
    ['no size', [...fields(0), 0x4c, ...fields(1, 0, 3, 3), 0, 0]],
    [
      'a size that is a float',
      [...fields(0, 10), 0x17, ...Array(8).fill(0xff), 0x2c, ...fields(1, 0, 3, 3), 0, 0],
    ],
    ['a size that is true', [...fields(0, 10), 0x11, 0x2c, ...fields(1, 0, 3, 3), 0, 0]],
    ['no struct', [...fields(0, 10, 10), 0]],
    ['the struct of another type', [...fields(3, 10, 10), 0x2c, ...fields(1, 0, 3, 3), 0, 0]],
    ['a struct that lacks a number', [...fields(0, 10, 10), 0x2c, ...fields(1, 0, 3), 0, 0]],
    ['numbers in a dictionary that is not there', [...fields(0, 10, 10), 0x2c, ...fields(1, 8, 3, 3), 0, 0]],
    ['more bytes than there are', [...fields(0, 10, 1000), 0x2c, ...fields(1, 0, 3, 3), 0, 0]],
  ])('%s: not followed', async (_, header) => {
    expect(await pages(...header)).toBeUndefined();
  });
});

test('pages of labels that are cut short are an error, not a loop without end', async () => {
  const whole = await readFile(fixture('groups/plain.parquet'));
  const { row_groups: groups } = await parquetMetadataAsync({
    byteLength: whole.length,
    slice: (start: number, end?: number) =>
      whole.buffer.slice(start + whole.byteOffset, (end ?? whole.length) + whole.byteOffset),
  });
  const label = groups[0].columns.find(({ meta_data: meta }) => meta?.path_in_schema[0] === 'label');
  const at = Number(label?.meta_data?.dictionary_page_offset ?? label?.meta_data?.data_page_offset);
  for (let by = 1; by < 12; by++) {
    const bytes = Buffer.from(whole);
    bytes.copy(bytes, at, at + by, at + 60);
    const file = path.join(home, `shifted-${by}.parquet`);
    await writeFile(file, bytes);
    await expect(openParquet(file, {}), `${by}`).rejects.toMatchObject({ code: 'format', file });
  }
});

test('a row without a class is refused, not taken for one of the first', async () => {
  await expect(openParquet(fixture('no-class.parquet'), {})).rejects.toMatchObject({
    ...{ code: 'format', entry: 'label', message: expect.stringMatching(/row 1 of a group has no class/) },
  });
});
