import { readFileSync } from 'node:fs';
import { type ByteSource, bytesSource, readFloat32, type Weight } from '@detailflow/core';
import { expect, test } from 'vitest';
import { stateDict } from './state-dict';
import { readTorchCheckpoint } from './torch-checkpoint';

/** By torch: tools/reference/legacy-checkpoint.py. */
const bytes = readFileSync(new URL('../../../tests/fixtures/legacy.pth', import.meta.url));
const source = (change: (copy: Uint8Array) => Uint8Array = (copy) => copy): ByteSource =>
  bytesSource(change(new Uint8Array(bytes)), 'legacy.pth');

test('tensors of a checkpoint of torch before 1.6: shared, turned, half, and parameters', async () => {
  const checkpoint = await readTorchCheckpoint(source());
  expect((checkpoint.root as Map<string, unknown>).get('steps')).toBe(12);
  const weights = stateDict(checkpoint, 'model');
  const values = async (name: string) => [...(await readFloat32(weights.get(name) as Weight))];
  const rows = Array.from({ length: 12 }, (_, i) => i / 8);
  expect(await values('features.0.weight')).toEqual(rows);
  expect(await values('features.0.bias')).toEqual(rows.slice(4, 8));
  expect(weights.get('turned')?.shape).toEqual([4, 3]);
  expect(await values('turned')).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11].map((i) => i / 8));
  expect(await values('half')).toEqual([1.5, -2, 65504]);
  expect(await values('parameter')).toEqual([0.25]);
});

test('damaged ones are refused, wherever they are cut or changed', async () => {
  const open = async (change: (copy: Uint8Array) => Uint8Array) => {
    const weights = stateDict(await readTorchCheckpoint(source(change)), 'model');
    for (const weight of weights.values()) await weight.read();
  };
  for (let length = 0; length < bytes.length; length += 3) {
    await expect(
      open((copy) => copy.slice(0, length)),
      `cut at ${length}`,
    ).rejects.toMatchObject({
      name: 'DetailFlowError',
    });
  }
  // The count of the first storage, right after the pickles.
  const text = bytes.toString('latin1');
  const at = bytes.length - (8 + 48) - (8 + 6) - (8 + 8) - (8 + 4);
  expect(text.length).toBe(bytes.length);
  const counts = [12n, 3n, 1n, 1n].map((count) =>
    Buffer.from(BigInt64Array.of(count).buffer).toString('latin1'),
  );
  expect(counts.every((count) => text.slice(at).includes(count))).toBe(true);
  const place = text.indexOf(counts[0], at);
  await expect(
    open((copy) => {
      copy[place] = 13;
      return copy;
    }),
  ).rejects.toThrow(/13 elements, the object says 12/);
  await expect(readTorchCheckpoint(source(), { maxPickleBytes: 100 })).rejects.toMatchObject({
    code: 'limit',
  });
});

test('names that mean nothing here are never called, as in zip files', async () => {
  const renamed = (from: string, to: string) => (copy: Uint8Array) =>
    new Uint8Array(Buffer.from(Buffer.from(copy).toString('latin1').replaceAll(from, to), 'latin1'));
  const named = await readTorchCheckpoint(
    source(renamed('utils\n_rebuild_tensor_v2', 'utils\n_os.system.run.me')),
  );
  expect(() => stateDict(named, 'model')).toThrow(
    /legacy\.pth: model\.features\.0\.weight: .*_os\.system\.run\.me.*nothing of it was executed/,
  );
  const hooks = renamed('collections\nOrderedDict', 'posix.......\nsystem..xxx');
  const other = stateDict(await readTorchCheckpoint(source(hooks)), 'model');
  expect([...(await readFloat32(other.get('half') as Weight))]).toEqual([1.5, -2, 65504]);
});
