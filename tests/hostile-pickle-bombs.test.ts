import { plainValue, stateDict } from '@detailflow/checkpoint';
import type { Weight } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { buildTorch, concat, op, tensor } from '../packages/checkpoint/src/test-files';
import { openPickle, openTorch } from './hostile-pickle';
import { refused } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

describe('pickles', () => {
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
