import { describe, expect, test } from 'vitest';
import { unpackSnappy, unpackSnappyPart } from './snappy';

const ascii = (text: string) => [...new TextEncoder().encode(text)];
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
/** A literal of up to 60 bytes. */
const literal = (text: string) => [(text.length - 1) << 2, ...ascii(text)];

/** Streams by the description of the format. */
const streams: readonly (readonly [string, number[], string])[] = [
  ['nothing', [0], ''],
  ['a literal', [5, ...literal('abcde')], 'abcde'],
  ['a literal with its length in a byte', [61, 60 << 2, 60, ...ascii('x'.repeat(61))], 'x'.repeat(61)],
  ['in two bytes', [0xac, 2, 61 << 2, 0x2b, 1, ...ascii('y'.repeat(300))], 'y'.repeat(300)],
  ['in four bytes', [3, 63 << 2, 2, 0, 0, 0, ...ascii('abc')], 'abc'],
  ['a copy that overlaps itself', [12, ...literal('ab'), (6 << 2) | 1, 2], 'abababababab'],
  ['a copy from two bytes back', [7, ...literal('abcd'), (2 << 2) | 2, 4, 0], 'abcdabc'],
  ['with four bytes', [7, ...literal('abcd'), (2 << 2) | 3, 3, 0, 0, 0], 'abcdbcd'],
];

test.each(streams)('%s', (_, packed, text) => {
  const { bytes, starts } = unpackSnappy(Uint8Array.from(packed), text.length);
  expect(textOf(bytes)).toBe(text);
  expect(starts.at(-1)).toEqual({ packed: packed.length, unpacked: text.length });
});

test.each<[string, number[], number]>([
  ['no length', [], 0],
  ['a length without end', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 5],
  ['another length', [4, ...literal('abcde')], 5],
  ['more than is stated', [5, ...literal('abcdef')], 5],
  ['less than is stated', [6, ...literal('abcde')], 6],
  ['a literal that is cut off', [5, 4 << 2, ...ascii('abc')], 5],
  ['a length that is cut off', [5, 61 << 2, 1], 5],
  ['a copy from before the beginning', [9, ...literal('abcde'), 1, 6], 9],
  ['a copy of nothing', [9, ...literal('abcde'), 1, 0], 9],
  ['a copy that is cut off', [9, ...literal('abcde'), 2, 1], 9],
  ['a copy beyond the end', [6, ...literal('abcde'), 1, 5], 6],
  ['a gigabyte of five bytes', [0x80, 0x80, 0x80, 0x80, 4], 2 ** 30],
])('refused: %s', (_, packed, length) => {
  expect(() => unpackSnappy(Uint8Array.from(packed), length)).toThrow(RangeError);
});

describe('parts', () => {
  /** Two fragments of 64 KiB: 256 literals of 64 bytes and copies of each, in the second one copies reach back to its beginning. */
  const fragment = (seed: number) => {
    const packed: number[] = [];
    for (let i = 0; i < 512; i++) {
      const bytes = Array.from({ length: 64 }, (_, j) => (seed + 31 * i + j * j) % 256);
      packed.push(60 << 2, 63, ...bytes, (63 << 2) | 2, 64, 0);
    }
    return packed;
  };
  const back = [(63 << 2) | 3, 0, 0, 1, 0]; // 64 bytes from 65536 before
  const length = 2 * 65536;

  test('begin where no copy reaches across, and unpack alone to what the whole does', () => {
    const packed = Uint8Array.from([0x80, 0x80, 8, ...fragment(1), ...fragment(2)]);
    const { bytes, starts } = unpackSnappy(packed, length);
    expect(starts.length).toBeGreaterThan(6);
    expect(starts.map(({ unpacked }) => unpacked)).toContain(65536);
    for (const [i, start] of starts.slice(0, -1).entries()) {
      const end = starts[i + 1];
      const part = unpackSnappyPart(packed.subarray(start.packed, end.packed), end.unpacked - start.unpacked);
      expect(part).toEqual(bytes.subarray(start.unpacked, end.unpacked));
    }
  });

  test('places that a later copy reaches across are none', () => {
    const packed = Uint8Array.from([0xc0, 0x80, 8, ...fragment(1), ...fragment(2), ...back]);
    const { starts } = unpackSnappy(packed, length + 64);
    const between = starts.filter(({ unpacked }) => unpacked > 65536 && unpacked < length);
    expect(between).toEqual([]);
  });

  test('a part that is not as long as it was is refused', () => {
    const packed = Uint8Array.from(literal('abcde'));
    expect(textOf(unpackSnappyPart(packed, 5))).toBe('abcde');
    for (const other of [4, 6, 2 ** 30]) expect(() => unpackSnappyPart(packed, other)).toThrow(RangeError);
  });
});
