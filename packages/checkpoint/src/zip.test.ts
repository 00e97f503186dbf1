import { deflateRawSync } from 'node:zlib';
import { bytesSource } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { crc32 } from './crc32';
import { buildZip, refusal, type TestMember, type ZipOverrides } from './test-files';
import { readZip } from './zip';
import { openMember } from './zip-member';

const a: TestMember = { name: 't/a', data: [1, 2, 3] };
const b: TestMember = { name: 't/b', data: [4] };
const find = (bytes: Uint8Array) => readZip(bytesSource(bytes, 'x.pt'));
/** Reads every member. */
async function open(bytes: Uint8Array): Promise<Map<string, number[]>> {
  const source = bytesSource(bytes, 'x.pt');
  const read = new Map<string, number[]>();
  for (const [name, entry] of await readZip(source)) {
    read.set(name, [...(await openMember(source, entry).readAll())]);
  }
  return read;
}

test('finds stored members, narrow and zip64, with and without deferred sizes', async () => {
  const variants: [TestMember[], ZipOverrides][] = [
    [[a, b], {}],
    [[{ ...a, wide: true }, b], {}],
    [[a, b], { wide: true }],
    [
      [
        { ...a, flags: 0x808, localSize: 0 },
        { ...b, wide: true },
      ],
      { wide: true },
    ],
    [[{ ...a, flags: 8, localSize: 0, wide: true }, b], {}],
  ];
  for (const [members, overrides] of variants) {
    const bytes = buildZip(members, overrides);
    const entries = await find(bytes);
    expect([...entries.keys()]).toEqual(['t/a', 't/b']);
    for (const member of members) {
      const { offset, size } = entries.get(member.name)!;
      expect([...bytes.slice(offset, offset + size)]).toEqual(member.data);
    }
    expect([...(await open(bytes)).values()]).toEqual(members.map(({ data }) => data));
  }
  expect((await find(buildZip([]))).size).toBe(0);
});

const hostile: [string, TestMember[], ZipOverrides, RegExp][] = [
  ['a member compressed by another method', [{ ...a, method: 12 }], {}, /compressed by method 12/],
  ['broken compressed data', [{ ...a, method: 8 }], {}, /unpacked|fewer/],
  ['another checksum', [{ ...a, crc: 1 }], {}, /CRC-32/],
  ['an encrypted member', [{ ...a, flags: 1 }], {}, /encrypted/],
  ['a strongly encrypted member', [{ ...a, flags: 0x40 }], {}, /encrypted/],
  ['a duplicate name', [a, a], {}, /two members/],
  ['a name that climbs', [{ ...a, name: '../a' }], {}, /'\.\.'/],
  ['a name that climbs later', [{ ...a, name: 't/../../a' }], {}, /'\.\.'/],
  ['an absolute name', [{ ...a, name: '/a' }], {}, /absolute/],
  ['a Windows drive', [{ ...a, name: 'C:a' }], {}, /absolute/],
  ['a backslash', [{ ...a, name: 't\\a' }], {}, /backslash/],
  ['a NUL', [{ ...a, name: 't/a\0' }], {}, /NUL/],
  ['an empty name', [{ ...a, name: '' }], {}, /empty/],
  ['another local name', [{ ...a, localName: 't/c' }], {}, /another name/],
  ['a longer local name', [{ ...a, localName: 't/aa' }], {}, /another name/],
  ['other local flags', [{ ...a, localFlags: 8 }], {}, /contradicts/],
  ['another local size', [{ ...a, localSize: 2 }], {}, /local header says 2/],
  ['a deferred local size without the flag', [{ ...a, localSize: 0 }], {}, /local header says 0/],
  ['two sizes', [{ ...a, packed: 2 }], {}, /two sizes differ/],
  ['a size that reaches into the next member', [{ ...a, size: 30, localSize: 30 }, b], {}, /overlaps/],
  ['a size beyond the file', [{ ...a, size: 1e6, localSize: 1e6 }], {}, /overlaps/],
  ['a size beyond 2^53', [{ ...a, size: 2 ** 60, wide: true }], {}, /impossible number/],
  ['two members in one place', [a, { ...b, offset: 0 }], {}, /overlaps|another name/],
  ['an offset beyond the file', [{ ...a, offset: 1e6 }], {}, /leaves the file/],
  ['an offset inside data', [{ ...a, offset: 1 }], {}, /no member/],
  ['another disk', [{ ...a, disk: 1 }], {}, /disk/],
  ['a missing zip64 field', [{ ...a, wide: true, withoutField: true }], {}, /field is missing/],
  ['fewer members than it says', [a], { count: 2 }, /damaged at member 1/],
  ['more members than it says', [a, b], { count: 1 }, /more than 1/],
  ['a displaced directory', [a], { directoryOffset: 1 }, /no member|leaves the file/],
  ['a directory beyond the file', [a], { directoryOffset: 1000 }, /does not end at the end record/],
  ['a shortened directory', [a], { directorySize: 20 }, /damaged at member 0/],
  ['more than a comment appended', [a], { tail: new Array(70_000).fill(0) }, /end record/],
  ['an impossible zip64 count', [a], { wide: true, count: 2 ** 60 }, /impossible/],
  [
    'a damaged zip64 record',
    [a],
    { wide: true, end64: (record) => record.fill(9, 4, 12) },
    /damaged|impossible/,
  ],
  ['several zip64 disks', [a], { wide: true, end64: (record) => record.fill(1, 16, 17) }, /disks/],
  ['two zip64 counts', [a], { wide: true, end64: (record) => record.fill(2, 24, 25) }, /disks/],
];

test.each(hostile)('refuses %s', async (_, members, overrides, message) => {
  const error = await refusal(() => open(buildZip(members, overrides)));
  expect(error.message).toMatch(message);
  expect([error.code, error.file]).toEqual(['format', 'x.pt']);
});

test.each([
  ['a comment', { comment: 'PK\u0005\u0006 is how it ends' }],
  ['something appended', { tail: [1, 2, 3] }],
  ['something before it', { before: new Array(100).fill(7) }],
  ['something before it, zip64', { before: new Array(100).fill(7), wide: true }],
  ['all of it', { before: [1], wide: true, comment: 'x', tail: [0] }],
])('reads an archive with %s, as zipfile does', async (_, overrides) => {
  expect(await open(buildZip([a, b], overrides))).toEqual(
    new Map([
      ['t/a', [1, 2, 3]],
      ['t/b', [4]],
    ]),
  );
});

test('leaves folders out', async () => {
  const entries = await open(buildZip([{ name: 't/', data: [] }, { name: 't/', data: [] }, a]));
  expect([...entries.keys()]).toEqual(['t/a']);
});

test.each<[string, TestMember[]]>([
  ['encrypted', [{ ...b, flags: 1 }]],
  ['compressed otherwise', [{ ...b, method: 12 }]],
  ['twice', [b, b]],
  ['damaged', [{ ...b, crc: 1 }]],
  ['of another size than its header says', [{ ...b, localSize: 9 }]],
  ['without its zip64 field', [{ ...b, wide: true, withoutField: true }]],
  ['beyond the file', [{ ...b, offset: 1e6 }]],
])('a member that is %s does not keep another one from being read', async (_, others) => {
  const source = bytesSource(buildZip([a, ...others]), 'x.pt');
  const entries = await readZip(source);
  expect([...(await openMember(source, entries.get('t/a')!).readAll())]).toEqual([1, 2, 3]);
  const error = await refusal(() => openMember(source, entries.get(others[0].name)!).readAll());
  expect([error.code, error.file, error.entry]).toEqual(['format', 'x.pt', others[0].name]);
});

describe('a deflated member', () => {
  const text = Uint8Array.from({ length: 100_000 }, (_, i) => (i * i) % 251);
  const packed = deflateRawSync(text);
  const deflated = (more: Partial<TestMember> = {}): TestMember => ({
    name: 't/c',
    method: 8,
    data: packed,
    size: text.length,
    localSize: text.length,
    crc: crc32(text),
    ...more,
  });
  const member = async (entry: TestMember) => {
    const source = bytesSource(buildZip([a, entry, b]), 'x.pt');
    return openMember(source, (await readZip(source)).get('t/c')!);
  };

  test('is unpacked and checked, whole or in parts that follow one another', async () => {
    const whole = await member(deflated());
    expect(await whole.readAll()).toEqual(text);
    expect(await whole.read(50_000, 10)).toEqual(text.slice(50_000, 50_010));
    expect(await whole.verify()).toBe(true);
    const wrong = await member(deflated({ crc: 1 }));
    expect(await wrong.read(0, 60_000)).toEqual(text.slice(0, 60_000));
    await expect(wrong.read(60_000, 40_000)).rejects.toThrow(/t\/c: the member is damaged: its CRC-32/);
    await expect(wrong.read(0, 1)).rejects.toThrow(/CRC-32/);
    await expect((await member(deflated({ crc: 1 }))).verify()).rejects.toThrow(/CRC-32/);
  });

  test.each([
    ['more than it states', { size: 99_999, localSize: 99_999 }, /more than the 99999/],
    ['less than it states', { size: 100_001, localSize: 100_001 }, /fewer than the 100001/],
  ])('that holds %s is refused', async (_, more, message) => {
    const broken = await member(deflated(more));
    await expect(broken.readAll()).rejects.toThrow(message);
  });

  test('that claims more than Deflate can make is refused before anything is allocated', async () => {
    const claim = member(deflated({ size: 2 ** 31, localSize: 2 ** 31 }));
    await expect(claim).rejects.toMatchObject({ code: 'limit', entry: 't/c' });
  });
});

test('a stored member read in parts is checked at its last byte', async () => {
  const data = [1, 2, 3, 4, 5, 6];
  const source = bytesSource(buildZip([{ name: 'a', data, crc: 1 }]), 'x.npz');
  const member = openMember(source, (await readZip(source)).get('a')!);
  expect([...(await member.read(0, 3))]).toEqual([1, 2, 3]);
  expect([...(await member.read(2, 3))]).toEqual([3, 4, 5]);
  await expect(member.read(5, 1)).rejects.toMatchObject({ code: 'format', entry: 'a' });
  await expect(openMember(source, member.entry).verify()).rejects.toThrow(/CRC-32/);
});

test('caps the number of members and the directory before reading them', async () => {
  const many = await refusal(() => find(buildZip([a], { wide: true, count: 100_001 })));
  expect(many.code).toBe('limit');
  const long = await refusal(() => find(buildZip([a], { wide: true, directorySize: 2 ** 30 })));
  expect(long.code).toBe('limit');
});

test('refuses a file cut at any byte', async () => {
  for (const overrides of [{}, { wide: true }]) {
    const whole = buildZip([a, b], overrides);
    for (let length = 0; length < whole.length; length++) {
      expect((await refusal(() => open(whole.slice(0, length)))).code).toBe('format');
    }
  }
});
