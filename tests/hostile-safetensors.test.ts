import { bytesSource, openSafetensors, readFloat32, readSafetensors, type Weight } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { buildZip, concat, utf8 } from '../packages/checkpoint/src/test-files';
import { refused, withLength } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

describe('safetensors', () => {
  /** A file with this header, `data` bytes after it, and a length prefix that may lie. */
  const file = (header: string | Uint8Array, data = 0, claimed?: bigint) => {
    return concat(
      withLength(typeof header === 'string' ? utf8(header) : header, claimed),
      new Uint8Array(data),
    );
  };
  const open = (bytes: Uint8Array) => openSafetensors(bytesSource(bytes, 'x.safetensors'));
  const entry = (begin: number, end: number, shape = `[${(end - begin) / 4}]`, dtype = 'F32') =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

  const attacks: [string, Uint8Array, RegExp][] = [
    ['header too large', file('{}', 0, 100_000_001n), /allows 100000000/],
    ['header length 2^64 - 1', file('{}', 0, 2n ** 64n - 1n), /allows 100000000/],
    ['header length beyond the file', file('{}', 0, 3n), /the file has/],
    ['header length zero', file('{}', 0, 0n), /'\{'/],
    ['file of 8 bytes', new Uint8Array(8), /too few/],
    ['invalid UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x7b, 0x7d, 0x7d)), /UTF-8/],
    ['overlong UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x7b, 0x7d, 0x7d)), /UTF-8/],
    ['not JSON', file('{"a" {}}'), /JSON/],
    ['JSON cut off in a string', file('{"a'), /JSON/],
    ['JSON cut off in an escape', file('{"\\u00'), /JSON/],
    ['missing {', file(`["a"]`), /'\{'/],
    ['byte order mark', file(`\ufeff{}`), /'\{'/],
    ['two documents', file('{}{}'), /JSON/],
    ['duplicate keys', file(`{"a":${entry(0, 4)},"a":${entry(0, 4)}}`, 4), /twice/],
    ['duplicate keys, one escaped', file(`{"a":${entry(0, 4)},"\\u0061":${entry(0, 4)}}`, 4), /twice/],
    ['offsets inverted', file(`{"a":${entry(4, 0, '[1]')}}`, 4), /after its end/],
    ['offsets out of bounds', file(`{"a":${entry(0, 400)}}`, 4), /only 4 bytes/],
    [
      'offsets beyond 2^53',
      file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,9007199254740993]}}`, 1),
      /two integers/,
    ],
    ['negative offsets', file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1), /'-'/],
    ['overlapping tensors', file(`{"a":${entry(0, 8)},"b":${entry(4, 12)}}`, 12), /overlaps/],
    ['one range for two tensors', file(`{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4), /overlaps/],
    ['gap between tensors', file(`{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12), /belong to no tensor/],
    ['trailing bytes', file(`{"a":${entry(0, 4)}}`, 5), /last 1 bytes/],
    ['polyglot: a zip after the data', concat(file('{}'), buildZip([])), /belong to no tensor/],
    ['polyglot: a zip before the header', concat(buildZip([]), file('{}')), /allows 100000000/],
    ['shape overflow', file(`{"a":${entry(0, 4, '[4294967296,4294967296]')}}`, 4), /too large/],
    [
      'shape overflow hidden by a zero',
      file(`{"a":${entry(0, 0, '[4503599627370496,4096,0]')}}`),
      /too large/,
    ],
    ['shape of floats', file(`{"a":${entry(0, 4, '[1.0]')}}`, 4), /only objects/],
    ['shape of exponents', file(`{"a":${entry(0, 4, '[1e0]')}}`, 4), /only objects/],
    ['shape of strings', file(`{"a":${entry(0, 4, '["1"]')}}`, 4), /shape/],
    ['shape that is no list', file(`{"a":${entry(0, 4, '1')}}`, 4), /shape/],
    ['shape with a million extents', file(`{"a":${entry(0, 4, `[${'1,'.repeat(1e6)}1]`)}}`, 4), /64 items/],
    ['dtype and size mismatch', file(`{"a":${entry(0, 4, '[1]', 'F64')}}`, 4), /takes 8 bytes/],
    ['dtype of a prototype', file(`{"a":${entry(0, 4, '[1]', 'constructor')}}`, 4), /unknown data type/],
    [
      'dtype that is a number',
      file('{"a":{"dtype":1,"shape":[],"data_offsets":[0,4]}}', 4),
      /unknown data type/,
    ],
    ['tensor that is a list', file('{"a":[]}'), /must have dtype/],
    [
      'additional field that is deep',
      file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":${nested(9)}}}`),
      /deep/,
    ],
    ['index of another file as a tensor', file('{"a":{"weight_map":{"a":"../x"}}}'), /must have dtype/],
    ['metadata of numbers', file('{"__metadata__":{"a":1}}'), /strings to strings/],
    ['metadata of objects', file('{"__metadata__":{"a":{"b":"c"}}}'), /strings to strings/],
    ['metadata that is a list', file('{"__metadata__":["a"]}'), /strings to strings/],
    ['deep JSON', file(`{"a":${nested(5_000_000)}}`), /nested too deep/],
    ['deep JSON that does not end', file(`{"a":${'['.repeat(5_000_000)}`), /nested too deep/],
    ['millions of empty objects', file(`{"a":{"shape":[${'{},'.repeat(2e6)}{}]}}`), /nested too deep/],
    ['a name of a megabyte', file(`{"${'module.'.repeat(150_000)}":${entry(0, 4)}}`, 4), /1000 characters/],
    [
      'a million tensors',
      file(`{${Array.from({ length: 1e6 }, (_, i) => `"${i}":{}`).join(',')}}`),
      /100000 keys/,
    ],
  ];
  test.each(attacks)('%s', (_, bytes, message) => refused(() => open(bytes), 'format', message));

  test('dtypes of which only the bytes can be read', async () => {
    const { weights } = await open(file(`{"a":${entry(0, 8, '[1]', 'C64')}}`, 8));
    await expect(readFloat32(weights.get('a') as Weight)).rejects.toMatchObject({
      code: 'dtype',
      entry: 'a',
    });
  });

  test('zero-size tensors, names of prototypes and white space padding are fine', async () => {
    const header = `{"__proto__":${entry(0, 0, '[0,3]')},"constructor":${entry(0, 8)},"s":${entry(8, 12, '[]')}} \n\t `;
    const { weights } = await open(file(header, 12));
    const read = await Promise.all([...weights.values()].map((weight) => weight.read()));
    expect([...weights.keys()]).toEqual(['__proto__', 'constructor', 's']);
    expect(read.map((bytes) => bytes.length)).toEqual([0, 8, 4]);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  test('what a Buffer holds is copied, not shared', async () => {
    const bytes = Buffer.from(file(`{"a":${entry(0, 4)}}`, 4));
    const weight = (await readSafetensors(bytesSource(bytes))).get('a') as Weight;
    (await weight.read()).fill(7);
    expect([...(await weight.read())]).toEqual([0, 0, 0, 0]);
    expect((await weight.read()).buffer.byteLength).toBe(4);
  });
});
