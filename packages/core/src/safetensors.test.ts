import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type ByteSource, bytesSource } from './byte-source';
import { DetailFlowError } from './errors';
import { fileLimits } from './file-limits';
import { openSafetensors, readSafetensors } from './safetensors';
import { encodeSafetensors } from './safetensors-writer';
import { readFloat32, type StorageDType, type Weight } from './weights';

const golden = new URL('../../../tests/fixtures/golden/', import.meta.url);

/** A file from a header (object or raw text or bytes) and as many data bytes as asked for. */
function build(header: unknown, dataBytes = 0, claimed?: number): Uint8Array {
  const json =
    header instanceof Uint8Array
      ? header
      : new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + dataBytes);
  new DataView(out.buffer).setBigUint64(0, BigInt(claimed ?? json.length), true);
  out.set(json, 8);
  for (let i = 0; i < dataBytes; i++) out[8 + json.length + i] = i;
  return out;
}

async function refusal(bytes: Uint8Array): Promise<DetailFlowError> {
  const error = await readSafetensors(bytesSource(bytes, 'x.safetensors')).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!DetailFlowError.isInstance(error)) throw new Error(`expected a DetailFlowError, got ${String(error)}`);
  expect(error.file).toBe('x.safetensors');
  return error;
}

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

test('reads the golden operations file', async () => {
  const bytes = new Uint8Array(readFileSync(new URL('ops.safetensors', golden)));
  const weights = await readSafetensors(bytesSource(bytes));
  expect(weights.size).toBeGreaterThan(20);
  for (const weight of weights.values()) {
    const values = await readFloat32(weight);
    expect(values.length).toBe(weight.shape.reduce((a, b) => a * b, 1));
  }
});

test('is lazy and tells where the bytes lie', async () => {
  const memory = bytesSource(build({ a: f32(0, 8), b: f32(8, 12) }, 12));
  const reads: number[] = [];
  const source: ByteSource = {
    ...memory,
    path: '/models/x.safetensors',
    read: (offset, length) => {
      reads.push(length);
      return memory.read(offset, length);
    },
  };
  const weights = await readSafetensors(source);
  expect(reads.length).toBe(2);
  const b = weights.get('b') as Weight;
  expect(b.location).toEqual({ path: '/models/x.safetensors', offset: source.size - 4, length: 4 });
  expect([...(await b.read())]).toEqual([8, 9, 10, 11]);
});

test('takes unaligned, empty, 0-dim and padded files', async () => {
  const header = {
    __metadata__: { format: 'pt' },
    flag: { dtype: 'BOOL', shape: [1], data_offsets: [0, 1] },
    scalar: f32(1, 5, []),
    none: { dtype: 'F16', shape: [0, 7], data_offsets: [5, 5] },
  };
  const file = await openSafetensors(bytesSource(build(`${JSON.stringify(header)}   `, 5)));
  expect(file.metadata.get('format')).toBe('pt');
  expect([...file.weights.values()].map((w) => `${w.name} ${w.dtype} [${w.shape}]`)).toEqual([
    'flag bool [1]',
    'scalar f32 []',
    'none f16 [0,7]',
  ]);
  expect(await openSafetensors(bytesSource(build({})))).toMatchObject({ weights: new Map() });
});

const hostile: [string, Uint8Array, RegExp][] = [
  ['too short', new Uint8Array(9), /too few/],
  ['a header beyond the file', build({}, 0, 3), /claims 3 bytes, the file has/],
  ['a header beyond the cap', build({}, 0, 100_000_001), /the format allows 100000000/],
  ['a header of 2^63 bytes', build({}, 0, 2 ** 63), /claims 92233720368547/],
  ['a byte order mark', build('\ufeff{}'), /does not start/],
  ['white space alone', build(' \n\t '), /does not start/],
  ['a list', build('[{}]'), /does not start/],
  ['a header of no bytes', build({}, 0, 0), /does not start/],
  ['bad UTF-8', build(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x7b, 0x7d, 0x7d)), /UTF-8/],
  ['bad JSON', build('{"a":}'), /JSON/],
  ['a trailing NUL', build('{}\0'), /JSON/],
  ['a lone surrogate', build(`{"\\ud800":${JSON.stringify(f32(0, 4))}}`, 4), /surrogate/],
  [
    'a duplicate tensor',
    build(`{"a":${JSON.stringify(f32(0, 4))},"a":${JSON.stringify(f32(0, 4))}}`, 4),
    /twice/,
  ],
  [
    'a duplicate in disguise',
    build(`{"a":${JSON.stringify(f32(0, 4))},"\\u0061" : {}}`, 4),
    /"a" occurs twice/,
  ],
  [
    'a duplicate field',
    build('{"a":{"dtype":"F32","shape":[],"shape":[1],"data_offsets":[0,4]}}', 4),
    /twice/,
  ],
  ['a duplicate in metadata', build('{"__metadata__":{"k":"1","k":"2"}}'), /twice/],
  ['metadata that is no map', build({ __metadata__: ['a'] }), /strings to strings/],
  ['metadata of numbers', build({ __metadata__: { a: 1 } }), /strings to strings/],
  [
    'an unknown dtype',
    build({ a: { dtype: 'F33', shape: [1], data_offsets: [0, 4] } }, 4),
    /unknown data type "F33"/,
  ],
  ['a missing field', build({ a: { dtype: 'F32', shape: [1] } }, 4), /must have dtype/],
  ['a tensor that is null', build('{"a":null}'), /must have dtype/],
  ['metadata twice', build('{"__metadata__":null,"__metadata__":{}}'), /twice/],
  ['metadata of nulls', build('{"__metadata__":{"a":null}}'), /strings to strings/],
  [
    'elements that share a byte in part',
    build({ a: { dtype: 'F4', shape: [3], data_offsets: [0, 2] } }, 2),
    /whole bytes/,
  ],
  ['a negative extent', build({ a: f32(0, 4, [-1]) }, 4), /'-' at character/],
  ['a fractional extent', build({ a: f32(0, 4, [1.5]) }, 4), /only objects/],
  ['an extent of 1.0', build('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', 4), /only objects/],
  [
    'an extent beyond 2^53',
    build('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,4]}}', 4),
    /2\^53/,
  ],
  ['an overflowing shape', build({ a: f32(0, 4, [2 ** 30, 2 ** 30, 2 ** 30]) }, 4), /too large/],
  ['an overflow hidden by zero', build({ a: f32(0, 0, [2 ** 50, 2 ** 50, 0]) }), /too large/],
  ['a shape that does not fit', build({ a: f32(0, 4, [2]) }, 4), /takes 8 bytes/],
  ['offsets of one number', build({ a: { dtype: 'U8', shape: [], data_offsets: [0] } }, 1), /two integers/],
  ['begin behind end', build({ a: f32(4, 0, [1]) }, 4), /begins \(4\) after its end/],
  ['data beyond the file', build({ a: f32(0, 8) }, 4), /only 4 bytes/],
  ['an overlap', build({ a: f32(0, 8), b: f32(4, 12) }, 12), /overlaps/],
  ['two tensors in one place', build({ a: f32(0, 4), b: f32(0, 4) }, 4), /overlaps/],
  ['a gap', build({ a: f32(0, 4), b: f32(8, 12) }, 12), /4\.\.8 before its data/],
  ['a gap at the start', build({ a: f32(4, 8) }, 8), /0\.\.4/],
  ['trailing bytes', build({ a: f32(0, 4) }, 5), /last 1 bytes/],
];

test.each(hostile)('refuses %s', async (_, bytes, message) => {
  const error = await refusal(bytes);
  expect(error.code).toBe('format');
  expect(error.message).toMatch(message);
});

test('takes what the safetensors library takes: white space first, no metadata, unknown fields, any order', async () => {
  const open = (header: unknown, data = 0) => openSafetensors(bytesSource(build(header, data)));
  expect((await open(' \n\r\t{}')).weights.size).toBe(0);
  expect((await open('{"__metadata__":null}')).metadata.size).toBe(0);
  const fields = { ...f32(0, 4), more: 1, list: [1, 2], note: null, inner: 'x' };
  expect((await open({ a: fields }, 4)).weights.get('a')?.shape).toEqual([1]);
  const { weights } = await open({ b: f32(4, 8), c: f32(8, 8, [0, 3]), a: f32(0, 4) }, 8);
  expect([...weights.keys()]).toEqual(['b', 'c', 'a']);
  expect([...(await weights.get('b')!.read())]).toEqual([4, 5, 6, 7]);
});

// What safetensors 0.8 takes, and how many bytes eight elements have.
test.each([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
])('reads the bytes of %s, and writes them again', async (dtype, length) => {
  const bytes = build({ a: { dtype, shape: [2, 4], data_offsets: [0, length] } }, length);
  const weight = (await readSafetensors(bytesSource(bytes))).get('a') as Weight;
  const data = await weight.read();
  expect([...data]).toEqual(Array.from({ length }, (_, i) => i));
  const plan = encodeSafetensors([weight]);
  const again = new Uint8Array(plan.size);
  again.set(plan.header);
  again.set(data, plan.tensors[0].offset);
  const read = (await readSafetensors(bytesSource(again))).get('a') as Weight;
  expect([read.dtype, read.shape, await read.read()]).toEqual([weight.dtype, [2, 4], data]);
});

test('refuses a file cut at any byte', async () => {
  const whole = build({ a: f32(0, 8), b: f32(8, 12) }, 12);
  for (let length = 0; length < whole.length; length++) {
    expect((await refusal(whole.slice(0, length))).code).toBe('format');
  }
});

test('survives a header that is one long string or deeply nested', async () => {
  expect((await refusal(build(`{"a":"${'x'.repeat(3_000_000)}"}`))).code).toBe('format');
  expect((await refusal(build(`{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`))).code).toBe('format');
});

test('what is written is read again, aligned, in the order given', async () => {
  const entry = (name: string, dtype: StorageDType, shape: number[], bytes: number[]): Weight => ({
    name,
    dtype,
    shape,
    read: async () => Uint8Array.from(bytes),
  });
  const weights = [
    entry('flag', 'bool', [3], [1, 0, 1]),
    entry('__proto__', 'f16', [2], [1, 2, 3, 4]),
    entry('7', 'f64', [], [1, 2, 3, 4, 5, 6, 7, 8]),
    entry('e"ñ\n', 'i32', [0, 4], []),
    entry('w', 'f32', [1, 1], [9, 9, 9, 9]),
  ];
  const plan = encodeSafetensors(weights, { made: 'here' });
  const bytes = new Uint8Array(plan.size);
  bytes.set(plan.header);
  let reached = plan.header.length;
  for (const { entry: weight, offset, length } of plan.tensors) {
    expect(offset).toBe(reached);
    bytes.set(await weight.read(), offset);
    reached += length;
  }
  const file = await openSafetensors({ ...bytesSource(bytes), path: '/x' });
  expect(file.metadata).toEqual(new Map([['made', 'here']]));
  expect([...file.weights.keys()].sort()).toEqual(weights.map((weight) => weight.name).sort());
  for (const weight of weights) {
    const read = file.weights.get(weight.name) as Weight;
    expect([read.dtype, read.shape]).toEqual([weight.dtype, weight.shape]);
    expect(await read.read()).toEqual(await weight.read());
  }
  expect(file.weights.get('w')?.location?.offset).toBe(plan.header.length + 8);
  expect(plan.header.length % 8).toBe(0);
});

test('refuses to write what could not be read', () => {
  const entry = (name: string, shape = [1]) => ({ name, dtype: 'f32' as const, shape });
  const faults = [
    () => encodeSafetensors([entry('a'), entry('a')]),
    () => encodeSafetensors([entry('__metadata__')]),
    () => encodeSafetensors([entry('\ud800')]),
    () => encodeSafetensors([entry('a', [-1])]),
    () => encodeSafetensors([entry('a', [1.5])]),
    () => encodeSafetensors([entry('a', [2 ** 40, 2 ** 40])]),
    () => encodeSafetensors([entry('a')], { k: 1 as unknown as string }),
    () => encodeSafetensors([{ name: 'a', dtype: 'f4', shape: [3] }]),
  ];
  for (const fault of faults) {
    expect(fault).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  }
});

describe('what is within the limits is written and read, and the next step is refused by both', () => {
  const { keys, nameLength, axes } = fileLimits.safetensors;
  const entry = (name: string, shape: number[] = [0]) => ({ name, dtype: 'u8' as const, shape });
  const tensor = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
  const many = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);
  test.each<
    [
      string,
      () => ReturnType<typeof encodeSafetensors>,
      () => ReturnType<typeof encodeSafetensors>,
      () => string,
    ]
  >([
    [
      'length of a name',
      () => encodeSafetensors([entry('é'.repeat(nameLength))]),
      () => encodeSafetensors([entry('é'.repeat(nameLength + 1))]),
      () => `{"${'é'.repeat(nameLength + 1)}":${tensor}}`,
    ],
    [
      'axes',
      () => encodeSafetensors([entry('a', new Array(axes).fill(0))]),
      () => encodeSafetensors([entry('a', new Array(axes + 1).fill(0))]),
      () => `{"a":{"dtype":"U8","shape":[${new Array(axes + 1).fill(0)}],"data_offsets":[0,0]}}`,
    ],
    [
      'tensors',
      () =>
        encodeSafetensors(
          many(keys - 1).map((name) => entry(name)),
          { made: 'here' },
        ),
      () =>
        encodeSafetensors(
          many(keys).map((name) => entry(name)),
          { made: 'here' },
        ),
      () => `{${many(keys + 1).map((name) => `"${name}":${tensor}`)}}`,
    ],
    [
      'length of a key of the metadata',
      () => encodeSafetensors([], { ['k'.repeat(nameLength)]: '' }),
      () => encodeSafetensors([], { ['k'.repeat(nameLength + 1)]: '' }),
      () => `{"__metadata__":{"${'k'.repeat(nameLength + 1)}":""}}`,
    ],
    [
      'entries of the metadata',
      () => encodeSafetensors([], Object.fromEntries(many(keys).map((key) => [key, '']))),
      () => encodeSafetensors([], Object.fromEntries(many(keys + 1).map((key) => [key, '']))),
      () => `{"__metadata__":{${many(keys + 1).map((key) => `"${key}":""`)}}}`,
    ],
  ])('%s', async (_, most, more, header) => {
    const plan = most();
    const file = new Uint8Array(plan.size);
    file.set(plan.header);
    expect((await openSafetensors(bytesSource(file))).weights.size).toBe(plan.tensors.length);
    expect(more).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect((await refusal(build(header()))).code).toBe('format');
  });
});
