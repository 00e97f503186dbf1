import { readFile } from 'node:fs/promises';
import { openFile } from '@detailflow/checkpoint/node';
import { parquetMetadataAsync } from 'hyparquet';
import { describe, expect, test } from 'vitest';
import { KeptLatest } from './kept-latest';
import { bufferOf } from './parquet-page';
import { ParquetRows } from './parquet-rows';

/** Written by pyarrow: tools/reference/parquet.py. */
const fixture = (name: string) =>
  new URL(`../../../tests/fixtures/parquet/groups/${name}.parquet`, import.meta.url).pathname;
const ROWS = 40;

/** Rows of a file of which it is known how many bytes were read. */
async function counted(path: string, mostHeld: number) {
  const file = await openFile(path);
  const metadata = await parquetMetadataAsync(bufferOf(file));
  let bytes = 0;
  const counting = {
    ...file,
    async read(offset: number, length: number) {
      bytes += length;
      return file.read(offset, length);
    },
  };
  const groups = metadata.row_groups.map((rowGroup) => ({
    ...{ file: counting, metadata, rowGroup, column: 'image', inner: 'bytes' },
    count: Number(rowGroup.num_rows),
  }));
  const rows = new ParquetRows(groups, new KeptLatest(mostHeld));
  /** Every row, the two groups by turns, and the bytes that this took. */
  const pass = async () => {
    const before = bytes;
    const found = new Map<number, Uint8Array | undefined>();
    for (let i = 0; i < ROWS; i++) found.set((i * 27) % ROWS, await rows.bytes((i * 27) % ROWS));
    return { found, bytes: bytes - before };
  };
  return { pass, size: file.size, close: () => file.close() };
}

const apart = ['snappy', 'snappy-no-dictionary', 'snappy-version-2', 'plain', 'plain-no-dictionary'];
const together = ['zstd', 'lengths'];

describe.each([...apart, ...together])('groups of one page: %s', (way) => {
  test('with and without room rows are the same, and images are their own', async () => {
    const [kept, crowded] = [await counted(fixture(way), 2 ** 20), await counted(fixture(way), 1)];
    const { found: right } = await kept.pass();
    for (let again = 0; again < 2; again++) {
      const { found } = await crowded.pass();
      expect(found).toEqual(right);
    }
    const pixels = JSON.parse(
      await readFile(new URL('../../../tests/fixtures/parquet/pages.json', import.meta.url), 'utf8'),
    ) as { pixel: number[] | null }[];
    for (const [i, { pixel }] of pixels.entries()) {
      expect(right.get(i)?.[0], `${i}`).toBe(pixel ? 0x89 : undefined);
      // A byte stands behind each image, by which it is known.
      if (pixel) expect(right.get(i)?.at(-1)).toBe((7 * i) % 256);
    }
    for (const one of [kept, crowded]) await one.close();
  });

  test('with room no page is read twice', async () => {
    const rows = await counted(fixture(way), 2 ** 20);
    expect((await rows.pass()).bytes).toBeLessThan(2 * rows.size);
    expect((await rows.pass()).bytes).toBe(0);
    await rows.close();
  });
});

test.each(apart)('without room an image is read apart from others: %s', async (way) => {
  const rows = await counted(fixture(way), 1);
  const first = await rows.pass();
  expect(first.bytes).toBeGreaterThan(0.8 * rows.size);
  const { found, bytes } = await rows.pass();
  const images = [...found.values()].reduce((sum, image) => sum + (image?.length ?? 0), 0);
  // Without packing the images alone; of Snappy at most two of the four fragments of a page.
  if (way.startsWith('plain')) expect(bytes).toBe(images);
  else expect(bytes).toBeLessThan((ROWS / 2) * (0.6 * rows.size));
  await rows.close();
});
