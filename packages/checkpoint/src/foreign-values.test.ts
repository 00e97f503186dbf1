import { readdirSync, readFileSync } from 'node:fs';
import { bytesSource, DetailFlowError, readFloat32, type Weight } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { PickleGlobal, PickleObject, PickleRecord } from './pickle-value';
import { plainValue } from './plain-value';
import { stateDict } from './state-dict';
import { refusal } from './test-files';
import { readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';
import { TorchTensor } from './torch-tensor';

// Files by torch and numpy: tools/reference/foreign-checkpoints.py. Those named zip_*, proto4_set and fsdp_tensors: by hand.

const folder = new URL('../../../tests/fixtures/foreign/', import.meta.url);
const open = (name: string) => {
  const bytes = new Uint8Array(readFileSync(new URL(name, folder)));
  return readTorchCheckpoint(bytesSource(bytes, name));
};
const entries = ({ root }: TorchCheckpoint) => root as Map<string, TorchValue>;

const model: Record<string, [string, number[], number[]]> = {
  w: ['f32', [2, 3], [0, 1, 2, 3, 4, 5]],
  h: ['f16', [2], [0.5, -2]],
  b: ['bf16', [2], [1.5, -3]],
  count: ['i64', [], [7]],
  parameter: ['f32', [1, 1], [0.25]],
  turned: ['f32', [3, 2], [0, 3, 1, 4, 2, 5]],
  attribute: ['f32', [2, 3], [0, 1, 2, 3, 4, 5]],
};

async function expectModel(
  checkpoint: TorchCheckpoint,
  key?: string,
  names = Object.keys(model),
): Promise<void> {
  const weights = stateDict(checkpoint, key);
  expect([...weights.keys()]).toEqual(names);
  for (const [name, [dtype, shape, values]] of Object.entries(model)) {
    const weight = weights.get(name) as Weight;
    expect([weight.dtype, weight.shape], name).toEqual([dtype, shape]);
    expect([...(await readFloat32(weight))], name).toEqual(values);
  }
}

/** Kinds that come as plain data, tensors among them; whatever else there is must be inert. */
const understood: Record<string, unknown> = {
  none: null,
  bytes: Uint8Array.of(0, 255),
  bytearray: Uint8Array.of(0, 255),
  set: new Set([1, 2]),
  set_empty: new Set(),
  frozenset: new Set([1]),
  counter: new Map([
    ['a', 2],
    ['b', 1],
  ]),
  defaultdict: new Map([['a', [1]]]),
  defaultdict_of_partial: new Map(),
  ordered: new Map([['a', 1]]),
  torch_size: [2, 3],
  text_of_an_odd_file_name: 'a\udcffb',
  text_of_protocol_0: "tab\tline\nback\\slash \u00e9 \u4e2d \u{1f600} 'quotes'\"",
  numbers: [0, -1, 255, 256, 65536, 2 ** 31, -(2 ** 31), 2 ** 40, -(2n ** 70n), 1e-300, 1 / 0, -1 / 0, -0],
};
/** Tensors, the second as torch 1.13 loads it: without its sign, which it does not save. */
const tensors = ['rng_state', 'tensor_imaginary_of_conjugate'];
/** Containers of plain data that hold some foreign values. */
const containers = ['optimizer', 'scheduler', 'keys', 'endless', 'deep'];
/** Protocols below these write them as calls. */
const calls: Record<string, number> = { bytes: 3, bytearray: 5 };

describe.each(readdirSync(folder).filter((name) => name.startsWith('everything')))('%s', (name) => {
  const protocol = Number(/protocol(\d)/.exec(name)?.[1]);

  test('the model reads', async () => expectModel(await open(name), 'model'));

  test('every other value is what it is, or inert', async () => {
    const checkpoint = await open(name);
    const kinds = new Set<string>();
    for (const [key, value] of entries(checkpoint)) {
      const isCall = protocol < (calls[key] ?? 0);
      if (key === 'model' || containers.includes(key)) continue;
      if (Object.hasOwn(understood, key) && !isCall) expect(value, key).toEqual(understood[key]);
      else if (key === 'namespace') expect(value).toBeInstanceOf(PickleObject);
      else if (tensors.includes(key)) expect(value).toBeInstanceOf(TorchTensor);
      else if (!key.startsWith('storage')) {
        expect(value instanceof PickleRecord || value instanceof PickleGlobal, key).toBe(true);
        kinds.add(key);
      }
    }
    expect(kinds.size).toBeGreaterThan(45);
  });

  test('asked for as a state dict, or as a tensor in one, it says what it is', async () => {
    const checkpoint = await open(name);
    const { file, root } = checkpoint;
    const keys = [...entries(checkpoint).keys()].filter((key) => !['model', ...tensors].includes(key));
    expect(keys.length).toBeGreaterThan(60);
    for (const key of keys) {
      const error = await refusal(async () => {
        const weights = stateDict(checkpoint, key);
        if (weights.size === 0) throw new DetailFlowError('weights', `"${key}" is an empty dict`, { file });
        for (const weight of weights.values()) await weight.read();
      });
      expect([error.file, ['format', 'weights', 'dtype', 'unsupported']], key).toEqual([
        file,
        expect.arrayContaining([error.code]),
      ]);
      expect(error.message, key).toContain(key);
    }
    const whole = stateDict({ file, root: new Map([...entries(checkpoint), ['t', someTensor(root)]]) });
    for (const key of keys) {
      const weight = whole.get(key) as Weight;
      for (const ask of [() => weight.shape, () => weight.dtype, () => weight.location, () => weight.read()])
        expect(await refusal(ask), key).toMatchObject({ file, entry: key });
    }
  });
});

function someTensor(root: TorchValue): TorchValue {
  return ((root as Map<string, TorchValue>).get('model') as Map<string, TorchValue>).get('w') as TorchValue;
}

test.each([
  ['numpy_float', /only "numpy\.core\.multiarray\.scalar" of Python.*nothing of it was executed/],
  ['torch_dtype', /the name "torch\.float32", no tensor/],
  ['tensor_int8', /cannot be read: a tensor of torch\.CharStorage is not supported/],
  ['tensor_complex', /torch\.ComplexFloatStorage is not supported/],
  ['tensor_conjugate', /torch\.ComplexFloatStorage is not supported/],
  ['tensor_quantised', /only "torch\._utils\._rebuild_qtensor"/],
  ['tensor_sparse', /only "torch\._utils\._rebuild_sparse_tensor"/],
  ['tensor_of_a_subclass', /a tensor of the class "__main__\.Plain" is not read/],
  ['parameter_int8', /torch\.CharStorage/],
  ['storage', /a storage without a tensor/],
  ['module', /only "torch\.nn\.modules\.linear\.Linear"/],
  ['class', /the name "torch\.nn\.modules\.linear\.Linear"/],
  ['enum', /only "__builtin__\.getattr" of Python could make, from "__main__\.Color"/],
  ['partial', /only "functools\.partial" of Python could make, from "_operator\.add"/],
  ['set', /is a set, no tensor/],
  ['text_of_protocol_0', /is the text "tab/],
  ['numbers', /is a list, no tensor/],
  ['none', /is None, no tensor/],
])('%s is named', async (key, message) => {
  const { file, root } = await open('everything-protocol2.pt');
  const values = new Map([
    [key, (root as Map<string, TorchValue>).get(key) as TorchValue],
    ['w', someTensor(root)],
  ]);
  const weight = stateDict({ file, root: new Map([['model', values]]) }, 'model').get(key) as Weight;
  const error = await refusal(() => weight.shape);
  expect(error.message).toMatch(message);
  expect(error).toMatchObject({ file, entry: `model.${key}` });
});

test('keys of every kind stay apart', async () => {
  const keys = entries(await open('everything-protocol4.pt')).get('keys') as Map<unknown, string>;
  expect([...keys.values()]).toEqual([...'abcdefghi']);
  expect([...keys.keys()].slice(0, 5)).toEqual([[1, 2], null, 1.5, true, Uint8Array.of(120)]);
  expect(keys.get(2n ** 70n)).toBe('i');
});

test('arguments keep what is no plain value, and say so where it matters', async () => {
  const checkpoint = await open('everything-protocol2.pt');
  const args = entries(checkpoint).get('namespace') as TorchValue;
  const plain = plainValue(checkpoint, args, { foreign: 'keep' });
  expect(JSON.parse(JSON.stringify(plain))).toEqual({
    lr: 1e-4,
    out: '<something that only "pathlib.PurePosixPath" of Python could make>',
    dtype: '<the name "torch.float32">',
  });
  const error = await refusal(() => plainValue(checkpoint, args));
  expect(error.message).toMatch(/the arguments hold something that only "pathlib\.PurePosixPath"/);
});

test.each([
  ['bare.pt', undefined],
  ['attribute-dict.pt', 'model'],
  ['defaultdict.pt', 'model'],
  ['lightning.pt', 'state_dict'],
  ['python2.pth', 'model'],
])('%s: the state dict under %s', async (name, key) => expectModel(await open(name), key));

test('a state dict with other things among its tensors', async () => {
  const names = [...Object.keys(model), 'extra', 'steps', 'dtype'];
  const checkpoint = await open('mixed.pt');
  await expectModel(checkpoint, 'model', names);
  const error = await refusal(() => stateDict(checkpoint, 'model').get('steps')?.read());
  expect(error).toMatchObject({ file: 'mixed.pt', entry: 'model.steps', code: 'format' });
  expect(error.message).toMatch(/is the number 3, no tensor/);
});

test('texts of Python 2 are texts', async () => {
  expect(entries(await open('python2.pth')).get('long')).toBe('x'.repeat(300));
});

test('protocol 0 writes everything as text', async () => {
  const plain = entries(await open('plain-protocol0.pt'));
  for (const key of ['numbers', 'text_of_protocol_0', 'set', 'counter', 'none'])
    expect(plain.get(key), key).toEqual(understood[key]);
  expect((plain.get('keys') as Map<unknown, unknown>).size).toBe(9);
  expect((plain.get('enum') as unknown as PickleRecord<never>).type).toBe('__builtin__.getattr');
});

test('a whole module instead of its state dict', async () => {
  const error = await refusal(async () => stateDict(await open('module.pt')));
  expect(error.message).toMatch(/module\.pt: .*only "torch\.nn\.modules\.linear\.Linear" of Python/);
});

test('tensors as FSDP saves them', async () => {
  const weights = stateDict(await open('fsdp_tensors.pt'));
  const read = async (name: string) => {
    const weight = weights.get(name) as Weight;
    return [weight.dtype, weight.shape, [...(await readFloat32(weight))]];
  };
  expect(await read('a')).toEqual(['f32', [2, 3], [0, 1, 2, 3, 4, 5]]);
  expect(await read('b')).toEqual(['f16', [2, 3], [0, 1, 2, 3, 4, 5]]);
  expect(await read('c')).toEqual(['f32', [2], [1, 1]]);
});

test.each(['zip_i8.pt', 'zip_np_scalar.pt', 'zip_torch_dtype.pt'])('%s: its model reads', async (name) => {
  const weights = stateDict(await open(name), 'model');
  expect(weights.size).toBeGreaterThan(0);
  for (const weight of weights.values()) {
    const values = await readFloat32(weight);
    expect(values.length).toBe(weight.shape.reduce((a, b) => a * b, 1));
    expect(values.every(Number.isFinite)).toBe(true);
  }
});

test('tuples as keys, and sets of protocol 4', async () => {
  const tuples = entries(await open('zip_tuplekeys.pt'));
  expect([...tuples.values()].length).toBeGreaterThan(0);
  const sets = entries(await open('proto4_set.pt'));
  expect(sets).toEqual(
    new Map([
      ['s', new Set([1, 2])],
      ['f', new Set([1])],
    ]),
  );
});
