import { readFileSync } from 'node:fs';
import { fileLimits } from '@detailflow/core';
import { describe, expect, it } from 'vitest';
import { readNpy, writeNpy } from './npy';

/** A .npy file with this header text. */
function file(header: string, body: Uint8Array = new Uint8Array(0), version = 1): Uint8Array {
  const text = new TextEncoder().encode(header);
  const size = version === 1 ? 2 : 4;
  const bytes = new Uint8Array(8 + size + text.length + body.length);
  bytes.set([0x93, ...new TextEncoder().encode('NUMPY'), version, 0]);
  const view = new DataView(bytes.buffer);
  if (version === 1) view.setUint16(8, text.length, true);
  else view.setUint32(8, text.length, true);
  bytes.set(text, 8 + size);
  bytes.set(body, 8 + size + text.length);
  return bytes;
}

const raw = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const code = (value: string) => expect.objectContaining({ code: value });

describe('writeNpy', () => {
  it.each([
    { data: Float32Array.of(1, -2.5, 3, 0, 1e-30, 6), shape: [2, 3], dtype: 'float32' },
    { data: Int32Array.of(-1, 2 ** 31 - 1), shape: [2], dtype: 'int32' },
    { data: Uint8Array.of(255), shape: [], dtype: 'uint8' },
    { data: new Float32Array(0), shape: [0, 7], dtype: 'float32' },
  ])('writes what readNpy reads: $dtype $shape', ({ data, shape, dtype }) => {
    expect(readNpy(writeNpy({ data, shape }))).toEqual({ dtype, shape, data });
  });

  it('writes what NumPy writes', () => {
    const bytes = writeNpy({ data: Uint8Array.of(7, 8), shape: [2] });
    const header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }";
    expect(bytes.length).toBe(130);
    expect([...bytes.subarray(0, 10)]).toEqual([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]);
    expect(new TextDecoder().decode(bytes.subarray(10, 128))).toBe(`${header.padEnd(117)}\n`);
  });

  it('refuses data of another size', () => {
    expect(() => writeNpy({ data: new Uint8Array(3), shape: [2] })).toThrow(code('shape'));
    expect(() => writeNpy({ data: new Uint8Array(4), shape: [-2, -2] })).toThrow(code('shape'));
  });

  it('writes as many axes as are read, and refuses one more', () => {
    const { axes } = fileLimits.npy;
    const data = Uint8Array.of(7);
    const most = new Array(axes).fill(1);
    expect(readNpy(writeNpy({ data, shape: most })).shape).toEqual(most);
    expect(() => writeNpy({ data, shape: [...most, 1] })).toThrow(code('limit'));
    const huge = {
      data: new Float64Array(0),
      shape: [0, ...new Array(axes - 1).fill(Number.MAX_SAFE_INTEGER)],
    };
    expect(readNpy(writeNpy(huge)).shape).toEqual(huge.shape); // the longest header there is
  });
});

describe('readNpy', () => {
  it('reads float64 and int64, versions 2.0 and 3.0, at odd offsets', () => {
    const f8 = file(
      "{'shape': (2,), 'fortran_order': False, 'descr': '<f8'}",
      raw(Float64Array.of(Math.PI, -0)),
      2,
    );
    const shifted = new Uint8Array(f8.length + 1).subarray(1);
    shifted.set(f8);
    expect(readNpy(shifted)).toEqual({ dtype: 'float64', shape: [2], data: Float64Array.of(Math.PI, -0) });
    const i8 = file(
      `{"descr": "<i8", "fortran_order": False, "shape": (1, 1)}\n`,
      raw(BigInt64Array.of(-(2n ** 40n))),
      3,
    );
    expect(readNpy(i8)).toEqual({ dtype: 'int64', shape: [1, 1], data: BigInt64Array.of(-(2n ** 40n)) });
  });

  const written = JSON.parse(
    readFileSync(new URL('../../../tests/fixtures/npy-files.json', import.meta.url), 'utf8'),
  ) as Record<string, { npy: string; dtype: string; shape: number[]; values: number[] }>;
  it.each(Object.entries(written))('reads what NumPy reads: %s', (_, { npy, dtype, shape, values }) => {
    const array = readNpy(Buffer.from(npy, 'base64'));
    expect([array.dtype, array.shape]).toEqual([dtype, shape]);
    expect(Array.from(array.data as ArrayLike<number | bigint>, Number)).toEqual(values);
  });

  it('names objects as what they are, and never unpickles them', () => {
    const header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
    expect(() => readNpy(file(header, new Uint8Array(40)))).toThrow(
      /Python objects, which are never unpickled/,
    );
  });

  it('turns Fortran order into C order', () => {
    const shape = [2, 3, 4];
    const fortran = new Int32Array(24);
    for (let i = 0; i < 24; i++) {
      const [a, b, c] = [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4];
      fortran[a + 2 * (b + 3 * c)] = i;
    }
    const bytes = file("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3, 4), }", raw(fortran));
    expect(readNpy(bytes)).toEqual({
      dtype: 'int32',
      shape,
      data: Int32Array.from({ length: 24 }, (_, i) => i),
    });
  });

  it('does not share memory with the file', () => {
    const bytes = Buffer.from(writeNpy({ data: Int32Array.of(1, 2), shape: [2] })); // in Node's pool
    const { data } = readNpy(bytes);
    bytes.fill(9);
    expect(data).toEqual(Int32Array.of(1, 2));
  });

  const good = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }";
  it.each<[string, string, Uint8Array]>([
    ['no magic', 'format', new Uint8Array(100)],
    ['an empty file', 'format', new Uint8Array(0)],
    ['another version', 'format', file(good, new Uint8Array(2), 4)],
    ['too little data', 'format', file(good, new Uint8Array(1))],
    ['too much data', 'format', file(good, new Uint8Array(3))],
    ['a header that ends early', 'format', file(good).subarray(0, 30)],
    ['a version 2 file of 10 bytes', 'format', file('', undefined, 2).subarray(0, 10)],
    ['text after the header', 'format', file(`${good} x`, new Uint8Array(2))],
    ['an unknown key', 'format', file(good.replace(', }', ", 'x': 1}"), new Uint8Array(2))],
    ['a missing key', 'format', file("{'descr': '|u1', 'shape': (2,)}", new Uint8Array(2))],
    ['a key given twice', 'format', file(good.replace('{', "{'descr': '|u1', "), new Uint8Array(2))],
    ['a call', 'format', file(good.replace('(2,)', 'f(2,)'), new Uint8Array(2))],
    ['a shape without a comma', 'format', file(good.replace('(2,)', '(2)'), new Uint8Array(2))],
    ['a negative extent', 'format', file(good.replace('2', '-2'), new Uint8Array(2))],
    ['a huge extent', 'format', file(good.replace('2', '99999999999999999999'), new Uint8Array(2))],
    ['an overflowing product', 'format', file(good.replace('2,', '9007199254740991, '.repeat(2)))],
    ['a boolean order that is none', 'format', file(good.replace('False', '0'), new Uint8Array(2))],
    ['an escaped string', 'format', file(good.replace('|u1', '\\x7cu1'), new Uint8Array(2))],
    ['pickled objects', 'dtype', file(good.replace('|u1', '|O'), new Uint8Array(2))],
    ['strings', 'dtype', file(good.replace('|u1', '<U3'), new Uint8Array(24))],
    ['complex numbers', 'dtype', file(good.replace('|u1', '<c8'), new Uint8Array(16))],
    ['dates', 'dtype', file(good.replace('|u1', '<M8[ns]'), new Uint8Array(16))],
    ['a type of a prototype', 'dtype', file(good.replace('|u1', 'constructor'), new Uint8Array(2))],
    [
      'records',
      'dtype',
      file(good.replace("'|u1'", "[('a', '<f4', (2, 3)), (('b', 'c'), [('d', '|O')])]"), new Uint8Array(2)),
    ],
    ['records that do not end', 'format', file(good.replace("'|u1'", '[[['), new Uint8Array(2))],
    ['two Ls', 'format', file(good.replace('(2,)', '(2LL,)'), new Uint8Array(2))],
    ['too many axes', 'limit', file(good.replace('2,', '1, '.repeat(33)), new Uint8Array(1))],
    ['a huge header', 'limit', file(' '.repeat(70_000) + good, new Uint8Array(2), 2)],
  ])('refuses %s (%s), naming the file', (_, expected, bytes) => {
    expect(() => readNpy(bytes, { file: 'a.npy' })).toThrow(
      expect.objectContaining({ code: expected, file: 'a.npy' }),
    );
  });
});
