import { expect, test } from 'vitest';
import { bytesSource, checkRange } from './byte-source';

const source = bytesSource(Uint8Array.of(10, 11, 12, 13), 'four.bin');

test('reads ranges, up to the last byte and down to none', async () => {
  expect(source.size).toBe(4);
  expect(await source.read(1, 2)).toEqual(Uint8Array.of(11, 12));
  expect(await source.read(0, 4)).toEqual(Uint8Array.of(10, 11, 12, 13));
  expect(await source.read(4, 0)).toEqual(new Uint8Array(0));
});

test('what is read belongs to the reader', async () => {
  (await source.read(0, 1))[0] = 99;
  expect(await source.read(0, 1)).toEqual(Uint8Array.of(10));
});

test.each([
  [3, 2],
  [5, 0],
  [-1, 2],
  [0, -1],
  [0.5, 1],
  [0, Number.NaN],
  [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
])('bytes from %d, %d of them, are refused with the name of the source', async (offset, length) => {
  const refused = { code: 'io', file: 'four.bin', message: expect.stringContaining('outside the 4 bytes') };
  await expect(source.read(offset, length)).rejects.toMatchObject(refused);
  expect(() => checkRange('four.bin', 4, offset, length)).toThrow(expect.objectContaining(refused));
});
