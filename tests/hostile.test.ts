import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { plainValue, readTorchCheckpoint, stateDict, TorchTensor } from '@detailflow/checkpoint';
import { openFile, openFolder } from '@detailflow/checkpoint/node';
import {
  bytesSource,
  openSafetensors,
  readFloat32,
  readSafetensors,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { openModel, readImage } from 'detailflow';
import { afterAll, describe, expect, test } from 'vitest';
import {
  buildTorch,
  buildZip,
  concat,
  op,
  pickle,
  type TestMember,
  tensor,
  utf8,
  type ZipOverrides,
} from '../packages/checkpoint/src/test-files';
import { refused, withLength } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-hostile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

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

const openTorch = (bytes: Uint8Array) => readTorchCheckpoint(bytesSource(bytes, 'x.pt'));
const openPickle = (...parts: (readonly number[])[]) => openTorch(buildTorch(pickle(...parts)));
/** Opens a pickle and uses what it holds as a state dict. */
const usePickle = async (...parts: (readonly number[])[]) => weightsOf(stateDict(await openPickle(...parts)));
/** Bytes of the model beside which a value lies. */
async function besideModel(value: readonly number[]): Promise<number[]> {
  const model = op.dict(op.text('w'), tensor());
  const checkpoint = await openPickle(op.dict(op.text('x'), value, op.text('model'), model));
  return [...(await (stateDict(checkpoint, 'model').get('w') as Weight).read())];
}
/** Reads every weight. */
async function weightsOf(weights: Weights) {
  for (const weight of weights.values()) await weight.read();
  return weights;
}

describe('pickles', () => {
  const call = (module: string, name: string, ...args: (readonly number[])[]) => [
    ...op.global(module, name),
    ...op.tuple(...args),
    ...op.reduce,
  ];
  const gadgets: [string, string, number[][]][] = [
    ['os', 'system', [op.text('touch pwned')]],
    ['posix', 'system', [op.text('touch pwned')]],
    ['nt', 'system', [op.text('calc')]],
    ['os', 'popen', [op.text('id')]],
    ['os', 'execvp', [op.text('sh')]],
    ['subprocess', 'Popen', [op.list(op.text('id'))]],
    ['subprocess', 'check_output', [op.text('id')]],
    ['builtins', 'eval', [op.text('1')]],
    ['builtins', 'exec', [op.text('1')]],
    ['builtins', 'getattr', [op.text('x'), op.text('y')]],
    ['builtins', 'compile', [op.text('1')]],
    ['builtins', '__import__', [op.text('os')]],
    ['builtins', 'open', [op.text('/etc/passwd')]],
    ['__builtin__', 'eval', [op.text('1')]],
    ['torch.hub', 'load', [op.text('evil/repo')]],
    ['torch', 'load', [op.text('other.pt')]],
    ['torch.serialization', 'load', [op.text('other.pt')]],
    ['torch._utils', '_rebuild_sparse_tensor', [op.none]],
    ['torch.utils._config_module', 'load_config', [op.none]],
    ['torch.jit', 'load', [op.text('x')]],
    ['numpy.core.multiarray', 'scalar', [op.none]],
    ['numpy._core.multiarray', '_reconstruct', [op.none]],
    ['numpy', 'dtype', [op.text('f4')]],
    ['numpy.testing._private.utils', 'runstring', [op.text('x')]],
    ['_codecs', 'encode', [op.text('x'), op.text('latin1')]],
    ['runpy', '_run_code', [op.text('x')]],
    ['pickle', 'loads', [op.text('x')]],
    ['_pickle', 'loads', [op.text('x')]],
    ['dill', 'loads', [op.text('x')]],
    ['cloudpickle', 'loads', [op.text('x')]],
    ['joblib', 'load', [op.text('x')]],
    ['pip', 'main', [op.text('install')]],
    ['pdb', 'run', [op.text('x')]],
    ['timeit', 'timeit', [op.text('x')]],
    ['code', 'interact', []],
    ['ctypes', 'CDLL', [op.text('x.so')]],
    ['importlib', 'import_module', [op.text('os')]],
    ['operator', 'attrgetter', [op.text('system')]],
    ['functools', 'partial', [op.none]],
    ['types', 'CodeType', []],
    ['socket', 'create_connection', [op.none]],
    ['shutil', 'rmtree', [op.text('/')]],
    ['webbrowser', 'open', [op.text('http://x')]],
    ['requests.api', 'get', [op.text('http://x')]],
    ['asyncio.unix_events', '_UnixSubprocessTransport._start', [op.none]],
    ['lib2to3.pgen2.grammar', 'Grammar.loads', [op.none]],
    ['collections', 'OrderedDict.fromkeys', [op.none]],
    ['collections', 'OrderedDict.__class__', []],
    ['torch', 'FloatStorage.__init__', []],
    ['torch._utils', '_rebuild_tensor_v2.__globals__', []],
    ['argparse', '_os.system', [op.text('id')]],
    ['collections.OrderedDict', '', []],
    ['', 'collections.OrderedDict', []],
    ['__proto__', '__proto__', []],
    ['constructor', 'constructor', []],
  ];
  test.each(gadgets)('%s.%s through REDUCE', async (module, name, args) => {
    const full = JSON.stringify(`${module}.${name}`).replace(/\W/g, '\\$&');
    const message = new RegExp(`only ${full} of Python.*nothing of it was executed`);
    await refused(() => usePickle(call(module, name, ...args)), 'format', message);
    await refused(() => usePickle(op.dict(op.text('w'), call(module, name, ...args))), 'format', message);
    expect(await besideModel(call(module, name, ...args))).toEqual([0, 0, 128, 63, 0, 0, 0, 64]);
  });

  const system = op.global('os', 'system');
  const text = op.text('id');
  const ways: [string, readonly number[], RegExp][] = [
    ['REDUCE', [...system, ...op.tuple(text), 0x52], /os\.system/],
    ['INST', [0x28, ...text, 0x69, ...utf8('os\nsystem\n')], /os\.system/],
    ['OBJ', [0x28, ...system, ...text, 0x6f], /os\.system/],
    [
      'OBJ of an allowed class',
      [0x28, ...op.global('argparse', 'Namespace'), 0x6f],
      /an object of "argparse\.Namespace"/,
    ],
    ['NEWOBJ', [...system, ...op.tuple(text), 0x81], /os\.system/],
    ['NEWOBJ_EX', [...system, ...op.tuple(text), 0x7d, 0x92], /os\.system/],
    ['NEWOBJ_EX of an allowed class', [...op.global('torch', 'Size'), 0x29, 0x7d, 0x92], /wrong kind/],
    [
      'NEWOBJ_EX with named arguments',
      [...op.global('torch', 'Size'), 0x29, ...op.dict(op.text('x'), op.none), 0x92],
      /only "torch\.Size"/,
    ],
    ['STACK_GLOBAL', [0x8c, 2, ...utf8('os'), 0x8c, 6, ...utf8('system'), 0x93], /os\.system/],
    ['STACK_GLOBAL of numbers', [...op.int(1), ...op.int(2), 0x93], /no string/],
    [
      'STACK_GLOBAL from the memo',
      [...op.text('os'), 0x71, 0, ...op.text('system'), 0x71, 1, 0x30, 0x30, 0x68, 0, 0x68, 1, 0x93],
      /os\.system/,
    ],
    ['GLOBAL with a space', [...op.global('os ', 'system')], /"os \.system"/],
    ['GLOBAL without an end', [0x63, ...utf8('os')], /does not end/],
    ['GLOBAL of a megabyte', [0x63, ...new Uint8Array(1e6).fill(97), 10, 10], /does not end/],
    ['EXT1', [0x82, 1], /opcode 0x82/],
    ['EXT2', [0x83, 1, 0], /opcode 0x83/],
    ['EXT4', [0x84, 1, 0, 0, 0], /opcode 0x84/],
    ['PERSID', [0x50, ...utf8('0\n')], /not that of a storage/],
    ['PROTO 5 NEXT_BUFFER', [0x97], /opcode 0x97/],
    ['PROTO 5 READONLY_BUFFER', [0x4e, 0x98], /opcode 0x98/],
    ['PROTO 5 BYTEARRAY8', [0x96, 255, 255, 255, 255, 255, 255, 255, 127], /ends in the middle/],
    ['a second PROTO', [0x80, 2, 0x4e], /opcode 0x80/],
    ['an unknown opcode', [0xff], /opcode 0xff/],
    [
      'a call of a call',
      [...op.global('torch', 'Size'), ...op.tuple(op.tuple()), 0x52, 0x29, 0x52],
      /calls a tuple, which is no function/,
    ],
    [
      'BUILD with __setstate__',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.text('__setstate__'), 0x62],
      /strange state/,
    ],
    [
      'BUILD with a __dict__ of numbers',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.dict(op.int(1), op.int(2)), 0x62],
      /no string/,
    ],
    ['BUILD of a list', [0x5d, 0x7d, 0x62], /has none/],
    ['BUILD of a function', [...op.global('torch', 'Size'), 0x7d, 0x62], /has none/],
    [
      'BUILD with three states',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.tuple([0x7d], [0x7d], [0x7d]), 0x62],
      /strange state/,
    ],
    ['a persistent id that is a string', [...op.text('storage'), 0x51], /not that of a storage/],
    ['a persistent id that is empty', [0x29, 0x51], /not that of a storage/],
    [
      'a persistent id of six',
      [...op.tuple(op.text('storage'), op.none, op.none, op.none, op.none, op.none), 0x51],
      /not that/,
    ],
    ['a persistent id that contains itself', [0x5d, 0x71, 0, 0x68, 0, 0x61, 0x51], /not that/],
    [
      'a persistent id with a dict for a key',
      [...op.tuple(op.text('storage'), op.global('torch', 'FloatStorage'), [0x7d], op.none, op.int(1)), 0x51],
      /damaged/,
    ],
    [
      'a storage that is not there',
      [
        ...op.tuple(
          op.text('storage'),
          op.global('torch', 'FloatStorage'),
          op.text('../0'),
          op.text('cpu'),
          op.int(2),
        ),
        0x51,
      ],
      /is missing/,
    ],
    ['stack underflow: APPEND', [0x61], /empty stack/],
    ['stack underflow: SETITEM', [0x4e, 0x73], /empty stack/],
    ['stack underflow: BUILD', [0x62], /empty stack/],
    ['stack underflow: REDUCE', [0x29, 0x52], /empty stack/],
    ['stack underflow: BINPUT', [0x71, 0], /empty stack/],
    ['stack underflow: DUP', [0x32], /empty stack/],
    ['MARK as a value', [0x28, 0x85], /empty stack/],
    ['MARK as a callee', [0x28, 0x29, 0x52], /empty stack/],
    ['MARK as the result', [0x28], /empty stack/],
    ['TUPLE without MARK', [0x4e, 0x74], /mark/],
    ['SETITEMS onto a MARK', [0x28, 0x28, 0x4e, 0x4e, 0x75], /empty stack/],
    ['bytes after STOP', [0x4e, 0x2e, 0x4e], /bytes follow/],
    ['a nested pickle after STOP', [0x4e, 0x2e, 0x80, 2, ...system, ...op.tuple(text), 0x52], /bytes follow/],
    ['two values at STOP', [0x4e, 0x4e], /left over/],
    ['a frame beyond the end', [0x95, 255, 255, 255, 255, 255, 255, 255, 127, 0x4e], /frame/],
    ['LONG4 of 2 GB', [0x8b, 255, 255, 255, 127], /integer/],
    ['LONG4 of negative length', [0x8b, 255, 255, 255, 255], /integer/],
    ['BINUNICODE of 4 GB', [0x58, 255, 255, 255, 255], /ends in the middle/],
    ['BINUNICODE8 of 2^63', [0x8d, 0, 0, 0, 0, 0, 0, 0, 128], /ends in the middle/],
    ['BINBYTES8 of 2^64', [0x8e, 255, 255, 255, 255, 255, 255, 255, 255], /ends in the middle/],
    ['an unset memo', [0x6a, 0, 0, 0, 1], /never stored/],
  ];
  test.each(ways)('%s', (_, body, message) => refused(() => usePickle(body), 'format', message));

  test.each([
    ['no STOP', Uint8Array.of(0x80, 2, 0x4e)],
    ['nothing', new Uint8Array(0)],
    ['only a protocol', Uint8Array.of(0x80)],
    ['protocol 255', Uint8Array.of(0x80, 255, 0x4e, 0x2e)],
    ['protocol 0', utf8("cos\nsystem\n(S'id'\ntR.")],
  ])('%s', (_, data) => refused(async () => stateDict(await openTorch(buildTorch(data))), 'format'));

  test('a nested pickle in bytes stays bytes', async () => {
    const inner = pickle([...system, ...op.tuple(text), 0x52]);
    const { root } = await openPickle([0x43, inner.length, ...inner]);
    expect(root).toEqual(Uint8Array.from(inner));
  });

  const repeated = (part: readonly number[], count: number) => Array(count).fill(part).flat();
  const ints = (count: number) => [0x5d, 0x28, ...repeated([0x4b, 1], count), 0x65];
  const bombs: [string, () => readonly number[]][] = [
    ['of nested lists', () => [...repeated([0x5d], 300_000)]],
    ['of marks', () => repeated([0x28], 300_000)],
    ['of objects', () => repeated([0x7d, 0x30], 1_100_000)],
    ['of opcodes', () => repeated([0x4e, 0x30], 2_600_000)],
    [
      'of one list, sized again and again',
      () => [
        ...op.global('torch', 'Size'),
        0x71,
        0,
        0x30,
        ...ints(50_000),
        0x85,
        0x71,
        1,
        0x30,
        ...repeated([0x68, 0, 0x68, 1, 0x52, 0x30], 20_000),
      ],
    ],
    [
      'of one list, made a dict again and again',
      () => {
        const pairs = Array.from({ length: 20_000 }, (_, i) => [...op.text(`k${i}`), 0x4e, 0x86]).flat();
        return [
          ...op.global('collections', 'OrderedDict'),
          0x71,
          0,
          0x30,
          0x5d,
          0x28,
          ...pairs,
          0x65,
          0x85,
          0x71,
          1,
          0x30,
          ...repeated([0x68, 0, 0x68, 1, 0x52], 20_000),
        ];
      },
    ],
    [
      'of one dict, built into objects again and again',
      () => {
        const items = Array.from({ length: 20_000 }, (_, i) => [...op.text(`k${i}`), 0x4e]).flat();
        return [
          ...op.global('argparse', 'Namespace'),
          0x71,
          0,
          0x30,
          0x7d,
          0x71,
          1,
          0x28,
          ...items,
          0x75,
          0x30,
          ...repeated([0x68, 0, 0x29, 0x81, 0x68, 1, 0x62], 20_000),
        ];
      },
    ],
  ];
  test.each(bombs)('a bomb %s', (_, body) => {
    const file = buildTorch(concat([0x80, 2], body(), [0x2e]));
    return refused(() => openTorch(file), 'limit');
  });

  test('large integers are read in linear time', async () => {
    const long = concat([0x8b, 0, 4, 0, 0], new Uint8Array(1024).fill(0x7f), [0x30]);
    const data = new Uint8Array(2 + 5000 * long.length);
    data.set([0x80, 2]);
    for (let i = 0; i < 5000; i++) data.set(long, 2 + i * long.length);
    await refused(() => openTorch(buildTorch(data)), 'format');
  });

  const global = (module: string, name: string, index: number) => [
    ...op.global(module, name),
    0x71,
    index,
    0x30,
  ];
  const recordBombs: [string, () => readonly number[]][] = [
    ['of records', () => [...global('a', 'b', 0), ...repeated([0x68, 0, 0x29, 0x52, 0x30], 1_000_001)]],
    [
      'of tensors that cannot be read',
      () => [
        ...global('torch._utils', '_rebuild_tensor_v2', 0),
        ...repeated([0x68, 0, 0x29, 0x52, 0x30], 100_000),
      ],
    ],
    ['of persistent ids that are none', () => repeated([0x4e, 0x51, 0x30], 100_000)],
    ['of names', () => Array.from({ length: 20_000 }, (_, i) => [...op.global('a', `b${i}`), 0x30]).flat()],
    [
      'of one list, made a set again and again',
      () => [
        ...global('builtins', 'set', 0),
        ...ints(50_000),
        0x85,
        0x71,
        1,
        0x30,
        ...repeated([0x68, 0, 0x68, 1, 0x52, 0x30], 20_000),
      ],
    ],
    [
      'of one dict, counted again and again',
      () => {
        const items = Array.from({ length: 20_000 }, (_, i) => [...op.text(`k${i}`), 0x4e]).flat();
        return [
          ...global('collections', 'Counter', 0),
          ...[0x7d, 0x28, ...items, 0x75, 0x85, 0x71, 1, 0x30],
          ...repeated([0x68, 0, 0x68, 1, 0x52], 20_000),
        ];
      },
    ],
    [
      'of a shape that is never a tensor, by way of a type',
      () => [
        ...global('torch._tensor', '_rebuild_from_type_v2', 0),
        ...[...op.global('torch._utils', '_rebuild_tensor_v2'), ...op.global('torch', 'Tensor')],
        ...[...op.tuple(op.none, op.int(0), ints(50_000), ints(1), op.false, op.none), 0x87, 0x71, 1, 0x30],
        ...repeated([0x68, 0, 0x68, 1, 0x52, 0x30], 20_000),
      ],
    ],
  ];
  test.each(recordBombs)('a bomb %s', (_, body) => {
    const file = buildTorch(concat([0x80, 2], body(), [0x2e]));
    return refused(() => openTorch(file), 'limit');
  });

  test('a name of a megabyte, from the memo', () =>
    refused(
      () => openPickle(op.text('x'.repeat(1e6)), [0x71, 0, 0x68, 0, 0x93]),
      'format',
      /a name in it is endless/,
    ));

  test('a type that rebuilds a type that rebuilds a type', async () => {
    const rebuild = op.global('torch._tensor', '_rebuild_from_type_v2');
    const deep = concat(
      ...Array(15_000).fill([...rebuild, 0x28, ...rebuild, ...op.global('torch', 'Tensor')]),
      op.tuple(op.none),
      ...Array(15_000).fill([0x7d, 0x74, 0x52]),
    );
    const file = buildTorch(concat([0x80, 2], deep, [0x2e]));
    await refused(async () => stateDict(await openTorch(file)), 'format', /_rebuild_from_type_v2/);
    const nested = concat(
      ...Array(15_000).fill([0x28, ...rebuild, ...op.global('torch', 'Tensor')]),
      op.tuple(op.none),
      ...Array(15_000).fill([0x7d, 0x74]),
    );
    const whole = buildTorch(concat([0x80, 2], rebuild, nested, [0x52, 0x2e]));
    await refused(async () => stateDict(await openTorch(whole)), 'format', /_rebuild_from_type_v2/);
  });

  test('a record that contains itself, everywhere it can', async () => {
    const record = [...op.global('a', 'B'), 0x29, 0x52, 0x71, 0];
    const self = [0x68, 0];
    const body = [
      ...record,
      ...[...self, 0x62], // state
      ...[...self, 0x61], // item
      ...[...op.text('w'), ...self, 0x73], // entry
      ...[...op.text('t'), ...tensor(), 0x73],
      ...[0x28, ...self, 0x90], // items of a set
    ];
    const checkpoint = await openPickle(body);
    const weights = stateDict(checkpoint); // filled like a dict
    expect(await (weights.get('t') as Weight).read()).toHaveLength(8);
    await refused(() => weights.get('w')?.read(), 'format', /w: is something that only "a\.B" of Python/);
    await refused(() => plainValue(checkpoint, checkpoint.root), 'limit');
    const kept = JSON.stringify(plainValue(checkpoint, checkpoint.root, { foreign: 'keep' }));
    expect(kept).toContain('"t":"<a tensor>"');
    expect(kept).toContain('<beyond 32 levels and 100000 values>');
  });

  test('what is deep, endless or shared without end is kept as plain data only as far as it goes', async () => {
    const doubling = Array.from({ length: 60 }, (_, i) => [0x5d, 0x71, i + 1, 0x28, 0x68, i, 0x68, i, 0x65]);
    const shared = await openPickle([0x5d, 0x71, 0, ...doubling.flat(), ...Array(60).fill(0x61)]);
    const kept = plainValue(shared, shared.root, { foreign: 'keep' });
    expect(JSON.stringify(kept).length).toBeLessThan(10_000_000);
    const deep = openPickle(Array(100_000).fill(0x5d), Array(99_999).fill(0x61));
    expect(JSON.stringify(plainValue(await deep, (await deep).root, { foreign: 'keep' }))).toMatch(/<beyond/);
  });

  test('a memo bomb of shared lists is opened, but not unfolded', async () => {
    const doubling = Array.from({ length: 60 }, (_, i) => [
      0x5d,
      0x71,
      i + 1,
      0x28,
      0x68,
      i,
      0x68,
      i,
      0x65,
    ]).flat();
    const checkpoint = await openPickle([0x5d, 0x71, 0, ...doubling, ...Array(60).fill(0x61)]);
    await refused(() => plainValue(checkpoint, checkpoint.root), 'limit');
  });

  test('attributes and keys of prototypes stay plain data', async () => {
    const inner = op.dict(op.text('polluted'), op.int(1));
    const namespace = [
      ...op.global('argparse', 'Namespace'),
      0x29,
      0x81,
      ...op.dict(op.text('__proto__'), inner, op.text('constructor'), inner),
      0x62,
    ];
    const checkpoint = await openPickle(namespace);
    const plain = plainValue(checkpoint, checkpoint.root) as Record<string, unknown>;
    expect(Object.keys(plain)).toEqual(['__proto__', 'constructor']);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(plain)).toBe(Object.prototype);
  });
});

describe('zip files', () => {
  const data: TestMember = { name: 'top/data.pkl', data: pickle(op.none) };
  const version: TestMember = { name: 'top/version', data: utf8('3\n') };
  const big = new Uint8Array(1e6);
  const attacks: [string, TestMember[], ZipOverrides, RegExp][] = [
    ['duplicate entries', [data, data, version], {}, /two members/],
    ['a name with ../', [data, version, { name: 'top/../../x', data: [] }], {}, /unsafe/],
    ['an absolute name', [data, version, { name: '/etc/passwd', data: [] }], {}, /absolute/],
    ['a name with a backslash', [data, version, { name: 'top\\..\\x', data: [] }], {}, /backslash/],
    ['a name with NUL', [data, version, { name: 'top/x\0.pkl', data: [] }], {}, /NUL/],
    ['a drive letter', [data, version, { name: 'C:/x', data: [] }], {}, /absolute/],
    ['a name that is not UTF-8', [data, { ...version, name: 'top/\ud800' }], {}, /version/],
    [
      'a comment that is an end record',
      [data, version],
      { comment: 'PK\x05\x06'.padEnd(22, '\0') },
      /no data\.pkl/,
    ],
    ['a second end record behind', [data, version], { tail: [...buildZip([])] }, /no data\.pkl/],
    [
      'another archive behind',
      [data, version],
      { tail: [...buildZip([{ ...data, name: 'other/x' }])] },
      /no data\.pkl/,
    ],
    ['a checksum that is another', [{ ...data, crc: 1 }, version], {}, /CRC-32/],
    ['local and central names differ', [{ ...data, localName: 'top/other.p' }, version], {}, /another name/],
    ['local and central sizes differ', [{ ...data, localSize: 1 }, version], {}, /local header says/],
    ['local and central flags differ', [{ ...data, localFlags: 8 }, version], {}, /contradicts/],
    ['overlapping entries', [data, { ...version, offset: 4 }], {}, /overlaps|no member|another name/],
    ['an entry that spans the next', [{ ...data, size: 90, localSize: 90 }, version], {}, /overlaps/],
    [
      'a bomb: a compressed entry whose packed size lies',
      [{ ...data, data: deflateRawSync(big), method: 8, size: big.length, packed: 1000 }, version],
      {},
      /local header says|overlaps/,
    ],
    [
      'a bomb: a compressed entry that unpacks to more than it says',
      [{ ...data, data: deflateRawSync(big), method: 8, size: 1000, localSize: 1000 }, version],
      {},
      /more than the 1000 bytes/,
    ],
    [
      'a bomb: a compressed entry that does not end',
      [
        {
          ...data,
          data: deflateRawSync(big).subarray(0, -9),
          method: 8,
          size: big.length,
          localSize: big.length,
        },
        version,
      ],
      {},
      /cannot be unpacked|fewer than/,
    ],
    [
      'a bomb: a stored entry of 4 GB',
      [{ ...data, size: 2 ** 32 - 2, localSize: 2 ** 32 - 2 }, version],
      {},
      /overlaps/,
    ],
    ['zip64 sizes that disagree', [{ ...data, wide: true, packed: 7 }, version], {}, /sizes differ/],
    [
      'zip64 local size that disagrees',
      [{ ...data, wide: true, localSize: 2 ** 33 }, version],
      {},
      /local header says/,
    ],
    ['a zip64 size of 2^63', [{ ...data, wide: true, size: 2 ** 63 }, version], {}, /impossible number/],
    [
      'a zip64 field that is missing',
      [{ ...data, wide: true, withoutField: true }, version],
      {},
      /field is missing/,
    ],
    ['a directory size that lies', [data, version], { directorySize: 30 }, /damaged at member 0/],
    ['a directory offset that lies', [data, version], { directoryOffset: 1 }, /overlaps|no member/],
    ['a directory beyond the file', [data, version], { directoryOffset: 1e6 }, /does not end/],
    ['fewer entries than claimed', [data, version], { count: 3 }, /damaged/],
    ['more entries than claimed', [data, version], { count: 1 }, /more than 1/],
    ['an encrypted entry', [{ ...data, flags: 1 }, version], {}, /encrypted/],
    ['an encrypted directory', [{ ...data, flags: 0x2000 }, version], {}, /encrypted/],
    ['an entry on another disk', [{ ...data, disk: 1 }, version], {}, /disk/],
    ['several disks', [data, version], { wide: true, end64: (record) => record.fill(1, 16, 17) }, /disks/],
  ];
  test.each(attacks)('%s', (_, members, overrides, message) =>
    refused(() => openTorch(buildZip(members, overrides)), 'format', message),
  );

  test('a million entries claimed', () =>
    refused(
      () => openTorch(buildZip([data, version], { wide: true, count: 1e6 })),
      'limit',
      /1000000 members/,
    ));

  test('a directory of a terabyte claimed', () =>
    refused(() => openTorch(buildZip([data, version], { wide: true, directorySize: 2 ** 40 })), 'limit'));

  test('a bomb: a compressed entry of a terabyte, one beyond the cap, and one that is not asked for', async () => {
    const bomb = (size: number) => ({ data: deflateRawSync(big), method: 8, size, localSize: size });
    const wide = { ...bomb(2 ** 40), wide: true };
    await refused(() => openTorch(buildZip([{ ...data, ...wide }, version])), 'limit', /at most 1032/);
    const cap = 65 * 2 ** 20;
    const zeros = { data: deflateRawSync(new Uint8Array(cap)), method: 8, size: cap, localSize: cap };
    await refused(() => openTorch(buildZip([{ ...data, ...zeros }, version])), 'limit', /maxPickleBytes/);
    const unneeded = buildZip([data, version, { ...wide, name: 'top/data/0' }]);
    expect((await openTorch(unneeded)).root).toBeNull();
  });

  test('a comment, or something before or behind, is passed over', async () => {
    for (const overrides of [{ comment: 'x' }, { tail: [1, 2] }, { before: [1, 2] }]) {
      expect((await openTorch(buildZip([data, version], overrides))).root).toBeNull();
    }
  });

  test('an entry named __proto__ is an entry', async () => {
    const file = buildZip([
      data,
      version,
      { name: 'top/__proto__', data: [] },
      { name: 'top/data/__proto__', data: [1] },
    ]);
    expect((await openTorch(file)).root).toBeNull();
  });
});

describe('tensors of a .pt file', () => {
  const model = (value: readonly number[]) => pickle(op.dict(op.text('model'), op.dict(op.text('w'), value)));
  const open = async (value: readonly number[]) =>
    weightsOf(stateDict(await openTorch(buildTorch(model(value))), 'model'));
  const huge = 2 ** 40;
  const attacks: [string, readonly number[], RegExp][] = [
    ['a storage smaller than the view', tensor({ shape: [3] }), /storage of 2/],
    ['a storage smaller than the offset', tensor({ offset: 2, shape: [1] }), /storage of 2/],
    ['a storage larger than its member', tensor({ numel: 3 }), /takes 12 bytes/],
    ['a storage of 2^60 elements', tensor({ numel: 2 ** 53 - 1 }), /takes/],
    ['a storage of -1 elements', tensor({ numel: -1 }), /-1 elements/],
    ['a negative stride', tensor({ strides: [-1] }), /non-negative/],
    ['a negative offset', tensor({ offset: -1 }), /non-negative/],
    ['a negative extent', tensor({ shape: [-2] }), /non-negative/],
    ['a stride of 2^40', tensor({ strides: [huge] }), /reaches element/],
    [
      'an overflow of extents times strides',
      tensor({ shape: [2, 2], strides: [2 ** 52, 2 ** 52] }),
      /reaches/,
    ],
    ['an overflow of the shape product', tensor({ shape: [huge, huge], strides: [0, 0] }), /too large/],
    ['more strides than extents', tensor({ strides: [1, 1] }), /2 strides/],
    ['100 extents', tensor({ shape: Array(100).fill(1), strides: Array(100).fill(1) }), /at most 64/],
  ];
  test.each(attacks)('%s', (_, value, message) => refused(() => open(value), 'format', message));

  test('a huge expansion by stride 0', () =>
    refused(() => open(tensor({ shape: [huge], strides: [0] })), 'limit', /expand/));

  test('many expansions that are each small enough', () => {
    const names = Array.from({ length: 20 }, (_, i) => [
      op.text(`w${i}`),
      tensor({ shape: [2 ** 22], strides: [0] }),
    ]);
    const data = pickle(op.dict(op.text('model'), op.dict(...names.flat())));
    return refused(async () => stateDict(await openTorch(buildTorch(data)), 'model'), 'limit', /expanding/);
  });

  test('storage types that are not supported', () =>
    refused(() => open(tensor({ type: 'ComplexFloatStorage' })), 'dtype', /ComplexFloatStorage/));
  test('a global for a storage type', () =>
    refused(() => open(tensor({ type: 'Size' })), 'dtype', /torch\.Size is not supported/));
  test('storage types that do not exist', () =>
    refused(() => open(tensor({ type: 'EvilStorage' })), 'dtype', /EvilStorage is not supported/));
  test('a big-endian byteorder', () =>
    refused(
      () => openTorch(buildTorch(model(tensor()), undefined, [{ name: 'top/byteorder', data: utf8('big') }])),
      'format',
      /big-endian/,
    ));

  test('a fractional, NaN or infinite extent', async () => {
    for (const extent of [0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      const numbers = tensor({ shape: [7] });
      const at = numbers.findIndex((_, i) => numbers[i] === 0x4b && numbers[i + 1] === 7);
      const value = [...numbers.slice(0, at), ...op.float(extent), ...numbers.slice(at + 2)];
      await refused(() => open(value), 'format', /non-negative integer/);
    }
  });

  test('a name of wrappers without end is stripped, not searched recursively', async () => {
    const name = `${'module.'.repeat(1_000_000)}w`;
    const data = concat(
      [0x80, 2],
      op.dict().slice(0, 1),
      op.text('model'),
      [0x7d],
      op.text(name),
      tensor(),
      [0x73, 0x73, 0x2e],
    );
    const weights = stateDict(await openTorch(buildTorch(data)), 'model');
    expect([...weights.keys()]).toEqual(['w']);
  });

  test('empty views of anything are fine', async () => {
    const weights = await open(tensor({ shape: [0, 5], strides: [huge, 1], offset: 2 }));
    expect((await (weights.get('w') as Weight).read()).length).toBe(0);
    const { root } = await openTorch(buildTorch(pickle(tensor())));
    expect(root).toBeInstanceOf(TorchTensor);
  });
});

describe('files that are no files', () => {
  const at = (name: string) => path.join(folder, name);

  test.skipIf(process.platform === 'win32')('a named pipe without a writer does not block', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    await refused(() => openFile(at('pipe')), 'io', /not a regular file/);
    await refused(() => readImage(at('pipe'), 8), 'io', /not a regular file/);
    mkdirSync(at('official/checkpoints'), { recursive: true });
    writeFileSync(at('official/config.json'), '{}');
    execFileSync('mkfifo', [at('official/checkpoints/1.pt')]);
    await refused(() => openModel({ tokenizer: at('official') }), 'io', /not a regular file/);
  });

  test.skipIf(process.platform === 'win32')('neither do devices', async () => {
    await refused(() => openFile('/dev/zero'), 'io', /not a regular file/);
    await refused(() => readImage('/dev/zero', 8), 'io', /not a regular file/);
  });

  test('folders', async () => {
    await refused(() => openFile(folder), 'io');
    const tree = await openFolder(folder);
    await refused(() => tree.open('../x'), 'invalid-argument');
    await refused(() => tree.open('/etc/passwd'), 'invalid-argument');
  });

  test('an image of a kind that nobody asked for never reaches its decoder', async () => {
    const bomb = `<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "${'x'.repeat(1000)}">]><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&a;</text></svg>`;
    for (const [name, text] of Object.entries({
      'x.png': bomb,
      'y.png': '%PDF-1.4',
      'z.png': '    ftypheic',
    })) {
      writeFileSync(at(name), text);
      await refused(() => readImage(at(name), 8), 'unsupported', /save it as PNG, JPEG, WebP/);
    }
    for (const [name, text] of Object.entries({
      'u.png': 'GIF89a',
      'v.png': 'II*\0',
      'w.png': '    ftypavif',
    })) {
      writeFileSync(at(name), text);
      await refused(() => readImage(at(name), 8), 'format');
    }
  });
});
