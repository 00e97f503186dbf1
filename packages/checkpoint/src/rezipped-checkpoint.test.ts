import { deflateRawSync } from 'node:zlib';
import { bytesSource, readFloat32, type Weight } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { crc32 } from './crc32';
import { stateDict } from './state-dict';
import {
  buildZip,
  op,
  pickle,
  refusal,
  type TestMember,
  tensor,
  utf8,
  type ZipOverrides,
} from './test-files';
import { readTorchCheckpoint } from './torch-checkpoint';

const model = (...entries: (readonly number[])[]) => pickle(op.dict(op.text('model'), op.dict(...entries)));
const good = model(op.text('w'), tensor());

describe('archives that were zipped again', () => {
  const storage = Float32Array.of(1, 2);
  const bytes = new Uint8Array(storage.buffer);
  const deflated = (name: string, data: Uint8Array, more: Partial<TestMember> = {}): TestMember => ({
    ...{ name, method: 8, data: deflateRawSync(data), size: data.length, localSize: data.length },
    ...{ crc: crc32(data), ...more },
  });
  const parts = (more: Partial<TestMember> = {}): TestMember[] => [
    { name: '__MACOSX/', data: [] },
    { name: '__MACOSX/._top', data: [1] },
    { name: 'top/', data: [] },
    deflated('top/data.pkl', good),
    deflated('top/data/0', bytes, more),
    deflated('top/version', utf8('3\n')),
  ];
  const read = async (members: TestMember[], overrides?: ZipOverrides, path?: string) => {
    const source = { ...bytesSource(buildZip(members, overrides), 'x.pt'), path };
    const weight = stateDict(await readTorchCheckpoint(source), 'model').get('w') as Weight;
    return { weight, values: await readFloat32(weight) };
  };

  test.each<[string, ZipOverrides]>([
    ['deflated, with folders', {}],
    ['with a comment', { comment: 'made by an archiver' }],
    ['with bytes before them', { before: [1, 2, 3, 4] }],
    ['as zip64', { wide: true }],
  ])('%s are read, and not mapped', async (_, overrides) => {
    const { weight, values } = await read(parts(), overrides, '/x.pt');
    expect([...values]).toEqual([1, 2]);
    expect(weight.location).toBeUndefined();
  });

  test('a damaged storage fails when it is read, by name', async () => {
    const broken = read(parts({ crc: 1 }));
    await expect(broken).rejects.toMatchObject({ code: 'format', entry: 'top/data/0' });
    const stored = read([
      ...parts().filter(({ name }) => name !== 'top/data/0'),
      { name: 'top/data/0', data: bytes, crc: 1 },
    ]);
    await expect(stored).rejects.toThrow(/CRC-32/);
  });

  test('a storage whose header says something else is never mapped', async () => {
    const source = {
      ...bytesSource(
        buildZip([
          ...parts().filter(({ name }) => name !== 'top/data/0'),
          { name: 'top/data/0', data: bytes, localName: 'top/data/1' },
        ]),
        'x.pt',
      ),
      path: '/x.pt',
    };
    const weight = stateDict(await readTorchCheckpoint(source), 'model').get('w') as Weight;
    expect(weight.location).toBeUndefined();
    await expect(weight.read()).rejects.toThrow(/another name/);
  });

  test('checksums that torch.save was told to leave out are not missed', async () => {
    const { values } = await read(parts({ crc: 0 }));
    expect([...values]).toEqual([1, 2]);
  });

  test('a deflate bomb is refused before it is unpacked', async () => {
    const count = 40 * 2 ** 20;
    const bomb = deflateRawSync(new Uint8Array(4 * count), { level: 9 });
    const big = model(op.text('w'), tensor({ numel: count, shape: [count] }));
    const members = [
      { name: 'top/data.pkl', data: big },
      { name: 'top/data/0', method: 8, data: bomb, size: 4 * count, localSize: 4 * count },
      { name: 'top/version', data: utf8('3\n') },
    ];
    await expect(read(members)).rejects.toMatchObject({ code: 'limit' });
    // A view of a few elements needs all of it unpacked as well.
    const view = model(op.text('w'), tensor({ numel: count, shape: [2], offset: 7 }));
    const error = await refusal(() => read([{ ...members[0], data: view }, ...members.slice(1)]));
    expect([error.code, error.entry]).toEqual(['limit', 'top/data/0']);
    const pickle = buildZip([deflated('top/data.pkl', new Uint8Array(70 * 2 ** 20)), members[2]]);
    expect((await refusal(() => readTorchCheckpoint(bytesSource(pickle, 'x.pt')))).code).toBe('limit');
  });
});
