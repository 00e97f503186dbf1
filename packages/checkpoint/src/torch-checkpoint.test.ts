import { bytesSource, DetailFlowError, readFloat32, readSafetensors, type Weight } from '@detailflow/core';
import { expect, test } from 'vitest';
import { openFile } from './node-files';
import { plainValue } from './plain-value';
import { stateDict } from './state-dict';
import {
  buildTorch,
  buildZip,
  countingSource,
  fashionPath,
  golden,
  goldenPath,
  op,
  pickle,
  refusal,
  type TestTensor,
  tensor,
  utf8,
} from './test-files';
import { readTorchCheckpoint } from './torch-checkpoint';
import type { TorchTensor } from './torch-tensor';

const open = (bytes: Uint8Array) => readTorchCheckpoint(bytesSource(bytes, 'x.pt'));
/** Opens a checkpoint and uses its "model", or all of it, down to the bytes of every tensor. */
async function use(bytes: Uint8Array) {
  const checkpoint = await open(bytes);
  const { root } = checkpoint;
  const weights = stateDict(checkpoint, root instanceof Map && root.has('model') ? 'model' : undefined);
  for (const weight of weights.values()) await weight.read();
  return weights;
}
const model = (...entries: (readonly number[])[]) => pickle(op.dict(op.text('model'), op.dict(...entries)));

async function values(tensor: TorchTensor | Weight): Promise<number[]> {
  const { dtype, shape } = tensor;
  return [...(await readFloat32({ name: 't', dtype, shape, read: () => tensor.read() }))];
}

test('reads every data type and view of the golden file', async () => {
  const checkpoint = await open(golden('B/ar/checkpoints/0000064.pt'));
  const root = checkpoint.root as Map<string, unknown>;
  expect([...root.keys()]).toEqual(['model', 'optimizer', 'steps', 'args', 'scheduler', 'ema', 'extra']);
  expect(root.get('steps')).toBe(64);
  const extra = stateDict(checkpoint, 'extra');
  const read = async (name: string) => {
    const weight = extra.get(name) as Weight;
    return [weight.dtype, [...weight.shape], await values(weight)];
  };
  const base = Array.from({ length: 24 }, (_, i) => i);
  const expected: Record<string, [string, number[], number[]]> = {
    i64: ['i64', [5], [-(2 ** 40), -1, 0, 7, 2 ** 52]],
    i32: ['i32', [2], [-5, 6]],
    u8: ['u8', [2], [0, 255]],
    bool: ['bool', [2], [1, 0]],
    f16: ['f16', [3], [0.5, -65504, 2 ** -24]],
    bf16: ['bf16', [3], [1, -3.140625, 1.0002555517425873e30]],
    f64: ['f64', [1], [Math.fround(Math.PI)]],
    scalar: ['f32', [], [3.5]],
    view_base: ['f32', [4, 6], base],
    view_transposed: ['f32', [6, 4], base.map((i) => (i % 4) * 6 + Math.floor(i / 4))],
    view_offset: ['f32', [2, 3], [8, 9, 10, 14, 15, 16]],
    view_expanded: ['f32', [2, 3], [0, 1, 2, 0, 1, 2]],
    empty: ['f32', [0, 3], []],
  };
  expect([...extra.keys()]).toEqual(Object.keys(expected));
  for (const [name, value] of Object.entries(expected)) expect(await read(name), name).toEqual(value);
  const exact = await (extra.get('f64') as Weight).read();
  expect(new DataView(exact.buffer, exact.byteOffset).getFloat64(0, true)).toBe(Math.PI);
});

test.each([
  ['A/tokenizer', 'model', '0000320', 'model'],
  ['A/ar', 'ema', '0000320', 'ema'],
  ['B/tokenizer', 'model', '0000064', 'model'],
  ['B/ar', 'ema', '0000064', 'ema'],
])('%s: %s of the .pt equals the .safetensors bit for bit', async (folder, key, steps, file) => {
  const torch = stateDict(await open(golden(`${folder}/checkpoints/${steps}.pt`)), key);
  const safe = await readSafetensors(bytesSource(golden(`${folder}/${file}.safetensors`)));
  expect([...torch.keys()].sort()).toEqual([...safe.keys()].sort());
  for (const [name, weight] of torch) {
    const other = safe.get(name) as Weight;
    expect(weight.shape).toEqual(other.shape);
    const [bits, otherBits] = (await Promise.all([weight, other].map(readFloat32))).map(
      (array) => new Uint32Array(array.buffer, array.byteOffset, array.length),
    );
    expect(
      Buffer.compare(Buffer.from(bits.slice().buffer), Buffer.from(otherBits.slice().buffer)),
      name,
    ).toBe(0);
  }
});

test('the two state dicts of an AR file differ, and keep their types', async () => {
  const checkpoint = await open(golden('A/ar/checkpoints/0000320.pt'));
  const [raw, ema] = ['model', 'ema'].map((key) => stateDict(checkpoint, key));
  expect([...raw.keys()].sort()).toEqual([...ema.keys()].sort());
  expect(raw.get('output.weight')?.dtype).toBe('bf16');
  expect(ema.get('output.weight')?.dtype).toBe('f32');
  expect(await values(raw.get('output.weight')!)).not.toEqual(await values(ema.get('output.weight')!));
});

test('arguments come out as plain values, numbers of ruamel included', async () => {
  const checkpoint = await open(golden('B/ar/checkpoints/0000064.pt'));
  const args = plainValue(checkpoint, (checkpoint.root as Map<string, never>).get('args') as never);
  expect(args).toMatchObject({
    lr: 1e-4,
    weight_decay: 5e-2,
    beta2: 0.95,
    num_classes: 7,
    vq_path: null,
    ema: true,
  });
});

test('locations point at the bytes of contiguous tensors of local files', async () => {
  const path = fashionPath('tokenizer/checkpoints/0002870.pt');
  const file = await openFile(path);
  try {
    const weights = stateDict(await readTorchCheckpoint(file), 'model');
    expect(weights.size).toBeGreaterThan(50);
    for (const weight of weights.values()) {
      expect(weight.location?.path).toBe(path);
      const { offset, length } = weight.location!;
      expect(Buffer.compare(await file.read(offset, length), await weight.read())).toBe(0);
    }
  } finally {
    await file.close();
  }
  const other = await openFile(goldenPath('B/ar/checkpoints/0000064.pt'));
  const extra = stateDict(await readTorchCheckpoint(other), 'extra');
  await other.close();
  expect(extra.get('view_transposed')?.location).toBeUndefined();
  expect(extra.get('view_expanded')?.location).toBeUndefined();
  expect(extra.get('view_offset')?.location).toBeUndefined();
  expect(extra.get('view_base')?.location?.length).toBe(96);
  expect((await refusal(() => extra.get('view_base')!.read())).code).toBe('closed');
});

test('opening reads no tensor data', async () => {
  const bytes = golden('A/tokenizer/checkpoints/0000320.pt');
  const { source, reads } = countingSource(bytes);
  await readTorchCheckpoint(source);
  expect(reads.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(bytes.length / 10);
});

test('wrapper prefixes are taken off, in any order and number', async () => {
  const names = ['module.a', '_orig_mod.b', 'module._orig_mod.c', '_orig_mod.module.module.d', 'e.module.f'];
  const checkpoint = await open(buildTorch(model(...names.flatMap((name) => [op.text(name), tensor()]))));
  const weights = stateDict(checkpoint, 'model');
  expect([...weights.keys()]).toEqual(['a', 'b', 'c', 'd', 'e.module.f']);
  expect(weights.get('c')?.name).toBe('c');
  expect(await values(weights.get('c')!)).toEqual([1, 2]);
  const clash = await open(buildTorch(model(op.text('a'), tensor(), op.text('module.a'), tensor())));
  expect(await refusal(() => stateDict(clash, 'model'))).toMatchObject({ code: 'weights', entry: 'a' });
  expect((await refusal(() => stateDict(clash, 'ema'))).message).toMatch(
    /no state dict "ema" \(keys: model\)/,
  );
});

test('a state dict holds tensors only', async () => {
  const checkpoint = await open(buildTorch(model(op.text('a'), op.int(1))));
  expect(await refusal(() => stateDict(checkpoint, 'model'))).toMatchObject({
    code: 'format',
    entry: 'model.a',
  });
});

const tensors: [string, TestTensor, string, RegExp][] = [
  ['a storage too small for the shape', { shape: [3] }, 'format', /reaches element 2 of a storage of 2/],
  ['a storage too small for the strides', { strides: [2] }, 'format', /reaches element 2/],
  ['a storage too small for the offset', { offset: 1 }, 'format', /reaches element 2/],
  ['a negative offset', { offset: -1 }, 'format', /non-negative/],
  ['a negative stride', { strides: [-1] }, 'format', /non-negative/],
  ['a negative extent', { shape: [-2] }, 'format', /non-negative/],
  ['more extents than strides', { shape: [1, 2] }, 'format', /2 extents and 1 strides/],
  ['a product beyond 2^53', { shape: [2 ** 40, 2 ** 40], strides: [0, 0] }, 'format', /too large/],
  ['a reach beyond 2^53', { shape: [3, 2], strides: [2 ** 52, 2 ** 52] }, 'format', /beyond 2\^53/],
  ['an expanded view of 4 TB', { shape: [2 ** 40], strides: [0] }, 'limit', /expanded tensor/],
  ['65 dimensions', { shape: Array(65).fill(1), strides: Array(65).fill(0) }, 'format', /at most 64/],
  ['a storage larger than its member', { numel: 3 }, 'format', /takes 12 bytes, not 8/],
  ['a storage smaller than its member', { numel: 1, shape: [1] }, 'format', /takes 4 bytes, not 8/],
  ['a storage of 2^60 elements', { numel: 2 ** 60 }, 'format', /damaged/],
  ['a missing storage', { key: '9' }, 'format', /"9" is missing/],
  ['a storage outside data/', { key: '../version' }, 'format', /missing/],
  ['a storage type of int16', { type: 'ShortStorage' }, 'dtype', /torch\.ShortStorage is not supported/],
  ['a storage type of complex numbers', { type: 'ComplexFloatStorage' }, 'dtype', /not supported/],
];

test.each(tensors)('refuses %s, and reads what lies beside it', async (_, layout, code, message) => {
  const error = await refusal(() => use(buildTorch(model(op.text('w'), tensor(layout)))));
  expect(error.message).toMatch(message);
  expect([error.code, error.file, error.entry]).toEqual([code, 'x.pt', 'model.w']);
  const mixed = stateDict(
    await open(buildTorch(model(op.text('bad'), tensor(layout), op.text('good'), tensor()))),
    'model',
  );
  expect(await values(mixed.get('good')!)).toEqual([1, 2]);
  const bad = mixed.get('bad') as Weight;
  for (const ask of [() => bad.shape, () => bad.dtype, () => bad.location, () => bad.read()])
    expect(await refusal(ask)).toMatchObject({ code, file: 'x.pt', entry: 'model.bad' });
  await expectHarmless(tensor(layout));
});

/** Whatever lies beside a model leaves it as it is. */
async function expectHarmless(value: readonly number[]): Promise<void> {
  const whole = pickle(op.dict(op.text('x'), value, op.text('model'), op.dict(op.text('w'), tensor())));
  const weights = stateDict(await open(buildTorch(whole)), 'model');
  expect(await values(weights.get('w')!)).toEqual([1, 2]);
}

test('a tensor that is the negative of its data is not read as its data', async () => {
  const negative = [...tensor().slice(0, -2), ...op.dict(op.text('neg'), [0x88]), 0x74, ...op.reduce];
  const error = await refusal(() => use(buildTorch(model(op.text('w'), negative))));
  expect(error).toMatchObject({ code: 'unsupported', entry: 'model.w' });
  expect(error.message).toMatch(/negative or conjugate of its data; save its clone\(\)/);
  await expectHarmless(negative);
});

test('takes views that are odd but sound', async () => {
  const cases: [TestTensor, number[]][] = [
    [{ shape: [1, 2], strides: [77, 1] }, [1, 2]],
    [{ shape: [2, 2], strides: [0, 0], offset: 1 }, [2, 2, 2, 2]],
    [{ shape: [2, 1, 2], strides: [0, 5, 1] }, [1, 2, 1, 2]],
    [{ shape: [], strides: [] }, [1]],
    [{ shape: [0, 2 ** 30], strides: [2 ** 30, 1], offset: 5 }, []],
  ];
  for (const [layout, expected] of cases) {
    const weights = stateDict(await open(buildTorch(model(op.text('w'), tensor(layout)))), 'model');
    expect(await values(weights.get('w')!)).toEqual(expected);
  }
});

const evil = (module: string, name: string) => [
  ...op.global(module, name),
  ...op.tuple(op.text('echo')),
  ...op.reduce,
];

test.each([
  ['os', 'system'],
  ['posix', 'system'],
  ['builtins', 'eval'],
  ['__builtin__', 'exec'],
  ['torch.hub', 'load'],
  ['torch', 'load'],
  ['torch.storage', '_load_from_bytes'],
  ['functools', 'partial'],
  ['constructor', 'constructor'],
  ['torch', 'constructor'],
  ['torch', '__proto__'],
  ['torch._utils', '_rebuild_tensor_v2\r'],
])('never calls the global %s.%s, and names it where it is used', async (module, name) => {
  const call = evil(module, name);
  for (const data of [pickle(op.dict(op.text('model'), call)), pickle(call), model(op.text('w'), call)]) {
    const error = await refusal(() => use(buildTorch(data)));
    expect(error).toMatchObject({ code: 'format', file: 'x.pt' });
    expect(error.message).toContain(JSON.stringify(`${module}.${name}`));
    expect(error.message).toContain('nothing of it was executed');
  }
  await expectHarmless(call);
  await expectHarmless(op.global(module, name));
});

test('refuses evil names of protocol 4, too', async () => {
  const short = (text: string) => [0x8c, text.length, ...utf8(text)];
  const data = Uint8Array.from([0x80, 4, ...short('os'), ...short('system'), 0x93, 0x2e]);
  expect((await refusal(() => use(buildTorch(data)))).message).toContain('"os.system"');
});

const ordered = op.global('collections', 'OrderedDict');
const pickles: [string, Uint8Array, RegExp][] = [
  ['an empty pickle', new Uint8Array(0), /ends in the middle/],
  ['protocol 6', Uint8Array.of(0x80, 6, 0x4e, 0x2e), /protocol/],
  ['INST without a mark', pickle([0x69, ...utf8('os\nsystem\n')]), /mark/],
  ['OBJ of nothing', pickle([0x28, 0x6f]), /it calls missing/],
  ['an unknown opcode', pickle([0x99]), /opcode 0x99 at byte 2/],
  ['EXT1', pickle([0x82, 1]), /opcode 0x82/],
  ['NEWOBJ_EX of nothing', pickle([0x92]), /empty stack/],
  ['NEWOBJ_EX without a dict', pickle(op.global('a', 'b'), op.emptyTuple, op.none, [0x92]), /no dict/],
  ['an out-of-band buffer', pickle([0x97]), /opcode 0x97/],
  ['a number that is none', pickle([0x49, ...utf8('0x1\n')]), /strange way/],
  ['a float that is none', pickle([0x46, ...utf8('1_0\n')]), /strange way/],
  ['a string without quotes', pickle([0x53, ...utf8('x\n')]), /quotes/],
  ['a string without an end', pickle([0x53, ...utf8("'x")]), /does not end/],
  ['a memo without a number', pickle(op.none, [0x70, ...utf8('x\n')]), /remembered value/],
  ['items for a number', pickle(op.int(1), [0x28, 0x90]), /no set/],
  ['bytes after the end', Uint8Array.of(0x80, 2, 0x4e, 0x2e, 0x4e), /bytes follow/],
  ['values left over', pickle(op.none, op.none), /left over/],
  ['nothing at the end', pickle(), /empty stack/],
  ['a mark at the end', pickle([0x28]), /empty stack/],
  ['a missing mark', pickle([0x74]), /mark/],
  ['POP of nothing', pickle([0x30]), /empty stack/],
  ['an unknown memo', pickle([0x68, 7]), /recalls value 7/],
  ['a string beyond the end', pickle([0x58, 255, 255, 255, 255]), /ends in the middle/],
  ['bytes beyond the end', pickle([0x8e, 255, 255, 255, 255, 255, 255, 255, 127]), /ends in the middle/],
  ['a string that is not UTF-8', pickle([0x58, 1, 0, 0, 0, 255]), /UTF-8/],
  ['an integer of 4 GB', pickle([0x8b, 255, 255, 255, 255]), /integer/],
  ['a dict without a value', pickle([0x7d, 0x28], op.int(1), [0x75]), /without a value/],
  ['a dict as a key', pickle(op.dict([0x7d], op.none)), /a list or dict for a key/],
  ['items of a number', pickle(op.int(1), [0x28, 0x75]), /no dict/],
  ['an append to a tuple', pickle(op.emptyTuple, op.none, [0x61]), /no list/],
  ['an append to a global', pickle(ordered, op.none, [0x61]), /no list/],
  ['a call of a string', pickle(op.text('x'), op.emptyTuple, op.reduce), /no function/],
  ['a call with no tuple', pickle(ordered, op.int(1), op.reduce), /no tuple/],
  ['attributes of a string', pickle(op.text('x'), [0x7d], op.build), /that has none/],
  [
    'a state that is a number',
    pickle(ordered, op.emptyTuple, op.reduce, op.int(1), op.build),
    /strange state/,
  ],
];

test.each(pickles)('refuses %s', async (_, data, message) => {
  const error = await refusal(() => open(buildTorch(data)));
  expect(error.message).toMatch(message);
  expect([error.code, error.file]).toEqual(['format', 'x.pt']);
});

/** Bodies that Python may be able to make something of, and this library is not. */
const foreign: [string, Uint8Array, RegExp][] = [
  [
    'a call of a storage class',
    pickle(op.global('torch', 'FloatStorage'), op.emptyTuple, op.reduce),
    /only "torch.FloatStorage" of Python/,
  ],
  [
    'a tensor of nothing',
    pickle(op.global('torch._utils', '_rebuild_tensor_v2'), op.emptyTuple, op.reduce),
    /wrong kind/,
  ],
  [
    'a tensor of a string',
    pickle(op.global('torch._utils', '_rebuild_parameter'), op.tuple(op.text('x')), op.reduce),
    /wrong kind/,
  ],
  [
    'a size of strings',
    pickle(op.global('torch', 'Size'), op.tuple(op.list(op.text('x'))), op.reduce),
    /wrong kind/,
  ],
  [
    'a ScalarFloat of a string',
    pickle(op.global('ruamel.yaml.scalarfloat', 'ScalarFloat'), op.tuple(op.text('1')), op.newobj),
    /wrong kind/,
  ],
  ['an odd OrderedDict', pickle(ordered, op.tuple(op.list(op.int(1))), op.reduce), /wrong kind/],
  [
    'a foreign persistent id',
    pickle(op.tuple(op.text('module'), op.none, op.none, op.none, op.none), op.persid),
    /not that of a storage/,
  ],
  [
    'a persistent id of strings',
    pickle(op.tuple(...['storage', 'a', 'b', 'c', 'd'].map(op.text)), op.persid),
    /damaged/,
  ],
  ['a text persistent id', pickle([0x50, ...utf8('0\n')]), /not that of a storage/],
  ['a call of a record', pickle(evil('a', 'b'), op.emptyTuple, op.reduce), /only "a\.b" of Python/],
];

test.each(foreign)('refuses %s where it is used', async (_, data, message) => {
  const error = await refusal(() => use(buildTorch(data)));
  expect(error.message).toMatch(message);
  expect([error.code, error.file]).toEqual(['format', 'x.pt']);
  await expectHarmless([...data.subarray(2, -1)]);
});

test('caps what a pickle can make the reader hold', async () => {
  const long = (byte: number, count: number) => {
    const data = new Uint8Array(count + 4).fill(byte);
    data.set([0x80, 2]);
    return data;
  };
  for (const data of [long(0x4e, 300_000), long(0x7d, 1_100_000)]) {
    expect((await refusal(() => open(buildTorch(data)))).code).toBe('limit');
  }
  const small = readTorchCheckpoint(bytesSource(buildTorch(model())), { maxPickleBytes: 5 });
  expect((await refusal(() => small)).code).toBe('limit');
});

test('plainValue stops at depth and refuses what is not plain', async () => {
  // x = []; x.append(x)
  const endless = await open(buildTorch(pickle([0x5d, 0x71, 0, 0x68, 0, 0x61])));
  expect((await refusal(() => plainValue(endless, endless.root))).code).toBe('limit');
  // Twenty lists, each holding the one before ten times.
  const bomb = await open(
    buildTorch(
      pickle(
        [0x5d, 0x71, 0],
        ...Array(20).fill([0x30, 0x5d, 0x28, ...Array(10).fill([0x68, 0]).flat(), 0x65, 0x71, 0]),
      ),
    ),
  );
  expect((await refusal(() => plainValue(bomb, bomb.root))).code).toBe('limit');
  const holder = await open(buildTorch(pickle(op.list(tensor()))));
  expect((await refusal(() => plainValue(holder, holder.root))).code).toBe('format');
  const proto = await open(
    buildTorch(pickle(op.dict(op.text('__proto__'), op.dict(op.text('x'), op.int(1))))),
  );
  const plain = plainValue(proto, proto.root) as Record<string, unknown>;
  expect(plain.x).toBeUndefined();
  expect(Object.keys(plain)).toEqual(['__proto__']);
});

test('understands integers, floats and bytes of every length', async () => {
  const { root } = await open(
    buildTorch(
      pickle(
        op.list(
          [0x8a, 0],
          [0x8a, 1, 255],
          op.long(-(2 ** 53) + 1),
          [0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1],
          op.int(-7),
          [0x4d, 255, 255],
          op.float(-0.1),
          [0x43, 2, 1, 2],
          [0x88],
        ),
      ),
    ),
  );
  expect(root).toEqual([0, -1, -(2 ** 53) + 1, 2n ** 64n, -7, 65535, -0.1, Uint8Array.of(1, 2), true]);
});

const good = model(op.text('w'), tensor());
const archives: [string, Uint8Array, RegExp][] = [
  [
    'two checkpoints in one file',
    buildTorch(good, undefined, [{ name: 'other/data.pkl', data: good }]),
    /several checkpoints: top\/data.pkl, other\/data.pkl/,
  ],
  ['members in no folder', buildZip([{ name: 'data.pkl', data: good }]), /no data\.pkl in a folder/],
  ['an empty zip', buildZip([]), /no data\.pkl/],
  ['a zip of something else', buildZip([{ name: 'word/document.xml', data: [] }]), /no data\.pkl/],
  ['TorchScript', buildTorch(good, undefined, [{ name: 'top/constants.pkl', data: [] }]), /TorchScript/],
  ['no version', buildZip([{ name: 'top/data.pkl', data: good }]), /no version/],
  [
    'a strange version',
    buildZip([
      { name: 'top/data.pkl', data: good },
      { name: 'top/version', data: utf8('99') },
    ]),
    /"99" is not known/,
  ],
  [
    'big-endian data',
    buildTorch(good, undefined, [{ name: 'top/byteorder', data: utf8('big') }]),
    /big-endian/,
  ],
  [
    'a long version',
    buildZip([
      { name: 'top/data.pkl', data: good },
      { name: 'top/version', data: Array(65).fill(48) },
    ]),
    /short text/,
  ],
  ['a cut file of old torch', Uint8Array.from([0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46]), /magic number/],
  ['gzip', Uint8Array.from([0x1f, 0x8b, 8, 0]), /gzip/],
  ['nothing', new Uint8Array(0), /too short/],
];

test.each(archives)('refuses %s', async (_, bytes, message) => {
  const error = await refusal(() => open(bytes));
  expect(error.message).toMatch(message);
  expect([error.code, error.file]).toEqual(['format', 'x.pt']);
});

test('takes a stated little-endian byte order', async () => {
  const bytes = buildTorch(good, undefined, [{ name: 'top/byteorder', data: utf8('little') }]);
  expect(stateDict(await open(bytes), 'model').size).toBe(1);
});

test('refuses a checkpoint cut at any byte, and a pickle cut at any byte', async () => {
  const whole = buildTorch(good);
  for (let length = 0; length < whole.length; length++) {
    expect((await refusal(() => open(whole.slice(0, length)))).code).toBe('format');
  }
  for (let length = 0; length < good.length; length++) {
    expect((await refusal(() => open(buildTorch(good.slice(0, length))))).code).toBe('format');
  }
});

test('whatever byte is changed, it either reads or refuses with a typed error', async () => {
  const whole = buildTorch(good);
  let refused = 0;
  for (let at = 0; at < whole.length; at++) {
    for (const change of [1, 0x80, 0xff]) {
      const bytes = whole.slice();
      bytes[at] ^= change;
      try {
        const weights = stateDict(await open(bytes), 'model');
        for (const weight of weights.values()) await weight.read();
      } catch (error) {
        if (!DetailFlowError.isInstance(error)) throw new Error(`byte ${at} ^ ${change}`, { cause: error });
        refused++;
      }
    }
  }
  expect(refused).toBeGreaterThan(whole.length);
});

test('stops when told to', async () => {
  const opening = readTorchCheckpoint(bytesSource(buildTorch(good)), { signal: AbortSignal.abort() });
  await expect(opening).rejects.toMatchObject({ name: 'AbortError' });
});
