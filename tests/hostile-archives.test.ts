import { deflateRawSync } from 'node:zlib';
import { stateDict, TorchTensor } from '@detailflow/checkpoint';
import type { Weight } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
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
import { openTorch, weightsOf } from './hostile-pickle';
import { refused } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

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
