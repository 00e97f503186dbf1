import { bytesSource } from '@detailflow/core';
import { expect, test } from 'vitest';
import { buildZip, refusal, type TestMember, type ZipOverrides } from './test-files';
import { readZip } from './zip';

const a: TestMember = { name: 't/a', data: [1, 2, 3] };
const b: TestMember = { name: 't/b', data: [4] };
const open = (bytes: Uint8Array) => readZip(bytesSource(bytes, 'x.pt'));

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
    const entries = await open(bytes);
    expect([...entries.keys()]).toEqual(['t/a', 't/b']);
    for (const member of members) {
      const { offset, size } = entries.get(member.name)!;
      expect([...bytes.slice(offset, offset + size)]).toEqual(member.data);
    }
  }
  expect((await open(buildZip([]))).size).toBe(0);
});

const hostile: [string, TestMember[], ZipOverrides, RegExp][] = [
  ['a compressed member', [{ ...a, method: 8 }], {}, /compressed/],
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
  ['a folder', [{ ...a, name: 't/' }], {}, /ends in/],
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
  ['a displaced directory', [a], { directoryOffset: 1 }, /does not end at the end record/],
  ['a shortened directory', [a], { directorySize: 20 }, /does not end at the end record/],
  ['a comment', [a], { comment: 'PK' }, /end record/],
  ['something appended', [a], { tail: [0] }, /end record/],
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

test('caps the number of members and the directory before reading them', async () => {
  const many = await refusal(() => open(buildZip([a], { wide: true, count: 100_001 })));
  expect(many.code).toBe('limit');
  const long = await refusal(() => open(buildZip([a], { wide: true, directorySize: 2 ** 30 })));
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
