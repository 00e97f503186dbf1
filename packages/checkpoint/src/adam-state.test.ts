import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFloat32, type Weight, weightFromArray } from '@detailflow/core';
import { afterAll, describe, expect, test } from 'vitest';
import { type AdamContents, adamContents } from './adam-contents';
import { type AdamPlace, adamState } from './adam-state';
import { NumberedItems, type TorchContents, type TorchItem } from './encode-pickle';
import { openFile } from './node-files';
import { dictEntries } from './state-dict';
import { readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
import { stepsMade } from './training-checkpoint';
import { writeTorchCheckpoint } from './write-torch';

const folder = mkdtempSync(join(tmpdir(), 'detailflow-adam-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'x.pt');

async function written<T>(
  contents: TorchContents,
  use: (checkpoint: TorchCheckpoint) => T,
): Promise<Awaited<T>> {
  await writeTorchCheckpoint(path, contents);
  const file = await openFile(path);
  try {
    return await use(await readTorchCheckpoint(file));
  } finally {
    await file.close();
  }
}

const shapes: Readonly<Record<string, readonly number[]>> = {
  'a.weight': [2, 3],
  'a.bias': [2],
  'b.weight': [2, 3],
  table: [1, 2, 2],
  'frozen.weight': [2, 2],
};
const filled = (name: string, value: number): Weight => {
  const shape = shapes[name];
  return weightFromArray(name, shape, new Float32Array(shape.reduce((x, y) => x * y, 1)).fill(value));
};
const names = Object.keys(shapes);
const learned = names.slice(0, 4);
const model = new Map(
  [...names.map((name) => filled(name, 0)), weightFromArray('seen', [3], new Float32Array(3))].map((one) => [
    one.name,
    one,
  ]),
);
const place: AdamPlace = {
  ...{ optimiser: 'optimizer', model: 'model', isBuffer: (name) => name === 'seen' },
  frozen: [(name) => name.startsWith('frozen.')],
};
const contents = (more: Partial<AdamContents> = {}): AdamContents => ({
  settings: { learningRate: 1e-3, betas: [0.9, 0.95], epsilon: 1e-8, weightDecay: 0.05 },
  moments: new Map(
    learned.map((name, i) => [name, { step: 7, mean: filled(name, i), square: filled(name, 10 + i) }]),
  ),
  parameters: learned.map((name) => ({ name, shape: shapes[name] })),
  ...{ initialRate: 2e-3, first: 'others' as const },
  ...more,
});
/** As older versions of torch write it. */
function withoutNames({ state, param_groups }: TorchContents): TorchContents {
  const groups = (param_groups as readonly TorchContents[]).map(({ param_names: _, ...group }) => group);
  return { state, param_groups: groups };
}

async function found(optimizer: TorchItem, more: Partial<AdamPlace> = {}) {
  return written({ model, optimizer, steps: 7 }, async (checkpoint) => {
    const state = await adamState(checkpoint, { ...place, ...more });
    const values: Record<string, number[]> = {};
    for (const [name, { step, mean, square }] of state?.moments ?? [])
      values[name] = [step, (await readFloat32(mean))[0], (await readFloat32(square))[0]];
    return { values, settings: state?.settings, steps: stepsMade(checkpoint) };
  });
}

const right = Object.fromEntries(learned.map((name, i) => [name, [7, i, 10 + i]]));

test.each([
  ['names', adamContents(contents())],
  ['numbers, matrices last', withoutNames(adamContents(contents()))],
  ['numbers, matrices first', withoutNames(adamContents(contents({ first: 'decaying' })))],
  [
    'one group of everything',
    withoutNames(
      adamContents(
        contents({
          settings: { ...contents().settings, weightDecay: 0 },
          parameters: names.map((name) => ({ name, shape: shapes[name] })),
        }),
      ),
    ),
  ],
])('an optimiser is read again by %s', async (_, optimizer) => {
  const { values, settings, steps } = await found(optimizer);
  expect(values).toEqual(right);
  expect(settings).toMatchObject({ learningRate: 1e-3, betas: [0.9, 0.95], epsilon: 1e-8 });
  expect(steps).toBe(7);
});

test('every kind of value is written as Python has it', async () => {
  const values = {
    ...{ none: null, yes: true, no: false, text: 'ü', whole: -3, large: 2 ** 40, part: -1.5e-8 },
    ...{ list: [1, [], 'x'], tuple: Object.freeze([0.9, 2]), dict: { a: { b: 1 } }, empty: {} },
    numbered: new NumberedItems(new Map<number, TorchItem>([[4, 'four']])),
    tensor: weightFromArray('t', [], Float32Array.of(2.5)),
  };
  await written(values, async ({ root }) => {
    const entries = dictEntries(root)!;
    const plain = Object.keys(values).filter(
      (name) => !['tensor', 'numbered', 'dict', 'empty'].includes(name),
    );
    for (const name of plain) expect(entries.get(name), name).toEqual(values[name as 'text']);
    expect(Object.isFrozen(entries.get('tuple'))).toBe(true);
    expect(Object.isFrozen(entries.get('list'))).toBe(false);
    expect(dictEntries(entries.get('numbered'))?.get(4)).toBe('four');
    expect(dictEntries(dictEntries(entries.get('dict'))?.get('a'))?.get('b')).toBe(1);
    expect(dictEntries(entries.get('empty'))?.size).toBe(0);
    expect(entries.get('tensor')).toMatchObject({ shape: [], dtype: 'f32' });
  });
});

describe('what is refused, and by what', () => {
  const good = withoutNames(adamContents(contents())) as {
    state: NumberedItems;
    param_groups: readonly TorchContents[];
  };
  const group = (change: TorchContents): TorchItem => ({
    state: good.state,
    param_groups: good.param_groups.map((one) => ({ ...one, ...change })),
  });
  const state = (change: (items: Map<number, TorchItem>) => void): TorchItem => {
    const items = new Map(good.state.items);
    change(items);
    return { ...good, state: new NumberedItems(items) };
  };
  test.each<[string, TorchItem, RegExp]>([
    ['a text', 'adam', /optimizer: is the text "adam", not an optimiser/],
    ['no groups', { state: {}, param_groups: [] }, /of no parameters/],
    ['SGD', group({ betas: null }), /param_groups\.0: betas are None: only Adam/],
    ['amsgrad', group({ amsgrad: true }), /amsgrad/],
    ['maximize', group({ maximize: true }), /maximize/],
    ['a rate that is none', group({ lr: Number.NaN }), /lr is the number NaN/],
    ['a decay below 0', group({ weight_decay: -1 }), /weight_decay/],
    ['numbers twice', group({ params: [0, 1] }), /has a parameter twice/],
    ['fewer parameters', { ...good, param_groups: good.param_groups.slice(0, 1) }, /is not that of "model"/],
    [
      'three groups',
      { ...good, param_groups: [...good.param_groups, { ...good.param_groups[0], params: [9] }] },
      /3 groups/,
    ],
    ['names of another number', group({ param_names: ['a.weight'] }), /param_names/],
    [
      'a moment of nobody',
      state((items) => items.set(99, items.get(0)!)),
      /the number 99 belongs to no parameter/,
    ],
    ['another shape', state((items) => items.set(0, items.get(1)!)), /shapes do not fit/],
    [
      'two shapes',
      state((items) => items.set(1, { ...(items.get(1) as TorchContents), exp_avg_sq: filled('a.bias', 0) })),
      /has the shapes \[2,3\] and \[2\]/,
    ],
    [
      'a step that is none',
      state((items) => items.set(0, { ...(items.get(0) as TorchContents), step: 1.5 })),
      /state of a\.bias: step is the number 1\.5/,
    ],
    ['no moments', state((items) => items.set(0, { step: 1 })), /exp_avg is missing, not a tensor/],
  ])('%s', async (_, optimizer, message) => {
    await expect(found(optimizer)).rejects.toThrow(message);
  });

  test('no optimiser at all is none', async () => {
    expect((await found(null)).values).toEqual({});
    expect((await found(null)).settings).toBeUndefined();
  });
});
