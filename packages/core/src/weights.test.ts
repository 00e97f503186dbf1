import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  readFloat32,
  type StorageDType,
  storageBytes,
  validateWeights,
  type Weight,
  weightFromArray,
} from './weights';

/** A weight of the given stored bytes. */
const stored = (
  dtype: StorageDType,
  bytes: Uint8Array,
  shape = [bytes.length / storageBytes[dtype]],
): Weight => ({
  name: 'w',
  dtype,
  shape,
  read: async () => bytes,
});

const bytesOf = (data: ArrayBufferView) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

describe('widening to float32', () => {
  test.each<[string, StorageDType, ArrayBufferView, number[]]>([
    [
      'f16',
      'f16',
      Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x8001, 0x7c00, 0xfc00),
      [
        1,
        -2,
        0x555 / 0x400 / 4, // about 1/3
        65504,
        2 ** -14, // the smallest normal number
        1023 * 2 ** -24, // the largest subnormal
        2 ** -24,
        -(2 ** -24),
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
      ],
    ],
    [
      'bf16',
      'bf16',
      Uint16Array.of(0x3f80, 0xc049, 0x7f80, 0xff80, 0x0001, 0x7f7f),
      [1, -3.140625, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** -133, 0xff * 2 ** 120],
    ],
    [
      'f64',
      'f64',
      Float64Array.of(Math.PI, -1e300, 1e-50),
      [Math.fround(Math.PI), Number.NEGATIVE_INFINITY, 0],
    ],
    ['i64', 'i64', BigInt64Array.of(-(2n ** 40n), -1n, 0n, 2n ** 53n + 1n), [-(2 ** 40), -1, 0, 2 ** 53]],
    ['i32', 'i32', Int32Array.of(-5, 6, -(2 ** 31)), [-5, 6, -(2 ** 31)]],
    ['u8', 'u8', Uint8Array.of(0, 255), [0, 255]],
    ['i16', 'i16', Int16Array.of(-(2 ** 15), 32767), [-(2 ** 15), 32767]],
    ['i8', 'i8', Int8Array.of(-128, 127), [-128, 127]],
    ['u64', 'u64', BigUint64Array.of(0n, 2n ** 64n - 1n), [0, 2 ** 64]],
    ['u32', 'u32', Uint32Array.of(2 ** 32 - 1), [2 ** 32]],
    ['u16', 'u16', Uint16Array.of(65535), [65535]],
    ['bool', 'bool', Uint8Array.of(1, 0), [1, 0]],
    ['f32', 'f32', Float32Array.of(1.5, -(2 ** -149)), [1.5, -(2 ** -149)]],
  ])('%s', async (_, dtype, data, expected) => {
    expect(Array.from(await readFloat32(stored(dtype, bytesOf(data))))).toEqual(expected);
  });

  test.each([
    ['f16', Uint16Array.of(0x8000)],
    ['bf16', Uint16Array.of(0x8000)],
  ] as const)('the negative zero of %s keeps its sign', async (dtype, data) => {
    expect(Object.is((await readFloat32(stored(dtype, bytesOf(data))))[0], -0)).toBe(true);
  });

  test.each([
    ['f16', Uint16Array.of(0x7e00, 0x7c01)],
    ['bf16', Uint16Array.of(0x7fc0, 0xff81)],
    ['f64', Float64Array.of(Number.NaN)],
  ] as const)('NaN of %s stays NaN', async (dtype, data) => {
    for (const value of await readFloat32(stored(dtype, bytesOf(data)))) expect(value).toBeNaN();
  });

  const bytesOnly = ['c64', 'f4', 'f6_e2m3', 'f6_e3m2'] as const;
  const widened = (Object.keys(storageBytes) as StorageDType[]).filter(
    (dtype) => !bytesOnly.some((other) => other === dtype),
  );
  test.each(widened)('%s at an odd address', async (dtype) => {
    const width = storageBytes[dtype];
    const aligned = Uint8Array.from({ length: 3 * width }, (_, i) => (i % width === 0 ? 1 : 0));
    const shifted = new Uint8Array(aligned.length + 1).subarray(1);
    shifted.set(aligned);
    expect(await readFloat32(stored(dtype, shifted))).toEqual(await readFloat32(stored(dtype, aligned)));
  });

  test('every 16-bit pattern of f16 is what its bits say', async () => {
    const patterns = Uint16Array.from({ length: 0x7c00 }, (_, bits) => bits);
    const values = await readFloat32(stored('f16', bytesOf(patterns)));
    for (let bits = 0; bits < 0x7c00; bits++) {
      const [exponent, fraction] = [bits >> 10, (bits & 0x3ff) / 1024];
      const value = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
      if (values[bits] !== value) expect([bits, values[bits]]).toEqual([bits, value]);
    }
  });

  const float8 = JSON.parse(
    readFileSync(new URL('../../../tests/fixtures/float8.json', import.meta.url), 'utf8'),
  ) as Record<string, string>;
  test.each(Object.entries(float8))('every byte of %s is what ml_dtypes says', async (format, words) => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const values = await readFloat32(stored(format as StorageDType, bytes));
    const bits = new Uint32Array(values.buffer);
    const found = Array.from(values, (value, i) =>
      Number.isNaN(value) ? 'nan' : bits[i].toString(16).padStart(8, '0'),
    );
    expect(found.join(' ')).toBe(words);
  });

  test.each(bytesOnly)('%s is refused by name, its bytes can be read', async (dtype) => {
    const weight = stored(
      dtype,
      Uint8Array.from({ length: 24 }, (_, i) => i),
    );
    await expect(readFloat32(weight)).rejects.toMatchObject({ code: 'dtype', entry: 'w' });
    expect(await weight.read()).toHaveLength(24);
  });

  test('too few bytes are refused', async () => {
    await expect(readFloat32(stored('f32', new Uint8Array(12), [2, 2]))).rejects.toMatchObject({
      code: 'weights',
      entry: 'w',
      message: expect.stringContaining('12 bytes do not make f32 [2, 2]'),
    });
  });
});

test('a weight in memory hands out copies', async () => {
  const data = Float32Array.of(1, 2);
  const weight = weightFromArray('w', [2], data);
  const read = await readFloat32(weight);
  read[0] = 7;
  expect(data[0]).toBe(1);
  expect(Array.from(await readFloat32(weightFromArray('v', [1], data.subarray(1))))).toEqual([2]);
});

describe('validateWeights', () => {
  const specs = [
    { name: 'a', shape: [2] },
    { name: 'b', shape: [2, 3] },
  ];
  const weights = (...entries: [string, number[]][]) =>
    new Map(entries.map(([name, shape]) => [name, stored('f32', new Uint8Array(0), shape)]));
  const message = (found: ReturnType<typeof weights>, ignore?: string[]): string => {
    try {
      validateWeights(found, specs, { file: 'model.pt', ignore });
    } catch (error) {
      expect(error).toMatchObject({ code: 'weights', file: 'model.pt' });
      return (error as Error).message;
    }
    return '';
  };

  test('takes what fits, in any order, and what is to be ignored', () => {
    expect(message(weights(['b', [2, 3]], ['a', [2]]))).toBe('');
    const besides = weights(['a', [2]], ['b', [2, 3]], ['stats', [9]], ['teacher.w', [9]]);
    expect(message(besides, ['stats', 'teacher.'])).toBe('');
  });

  test('lists what is missing, superfluous and misshapen', () => {
    expect(message(weights(['b', [3, 2]], ['c', [1]]))).toBe(
      'model.pt: the weights do not fit the configuration: 1 missing (a); 1 not part of this model (c); ' +
        '1 misshapen (b is [3, 2], must be [2, 3])',
    );
  });

  test('ignores whole names, or prefixes that end in a dot', () => {
    const besides = weights(['a', [2]], ['b', [2, 3]], ['statistics', [9]], ['teachers', [9]]);
    expect(message(besides, ['stat', 'teacher.'])).toContain(
      '2 not part of this model (statistics, teachers)',
    );
  });

  test('cuts long lists', () => {
    const many = Array.from({ length: 30 }, (_, i): [string, number[]] => [`x${i}`, [1]]);
    const text = message(weights(['a', [2]], ['b', [2, 3]], ...many));
    expect(text).toContain('30 not part of this model (x0, ');
    expect(text).toContain('x19, ...)');
    expect(text).not.toContain('x20');
  });
});
