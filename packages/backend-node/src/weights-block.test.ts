import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { matmul, symbol, Tensor, trace, type Weight } from '@detailflow/core';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openBlock } from './weights-block';

const LARGE = 2 ** 28;
let temporary: string;
beforeEach(() => {
  temporary = mkdtempSync(path.join(tmpdir(), 'detailflow-block-'));
  vi.stubEnv('TMPDIR', temporary);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(temporary, { recursive: true, force: true });
});

const parts = [Float32Array.of(1, 2, 3), new Uint8Array(100).fill(7), Int8Array.of(-1)];
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  new Uint8Array(buffer, byteOffset, byteLength);

test.runIf(process.platform !== 'win32')(
  'a large block is in a file, which is removed when it is used',
  async () => {
    await using block = await openBlock(LARGE);
    const places = [];
    for (const part of parts) places.push(await block.add(part));
    const { memory, folder = '', release } = await block.finish();
    expect(memory).toBeUndefined();
    const written = readFileSync(path.join(folder, places[0].file));
    for (const [i, { offset, length }] of places.entries()) {
      expect([...written.subarray(offset, offset + length)]).toEqual([...bytesOf(parts[i])]);
      expect(offset % 64).toBe(0);
    }
    await release();
    expect(readdirSync(temporary)).toEqual([]);
  },
);

test('a block that is given up leaves no file', async () => {
  const listeners = process.listenerCount('exit');
  {
    await using block = await openBlock(LARGE);
    await block.add(parts[0]);
  }
  expect(readdirSync(temporary)).toEqual([]);
  expect(process.listenerCount('exit')).toBe(listeners);
});

test('a small block is in memory, and so is a large one that no folder takes', async () => {
  for (const [most, folder] of [
    [LARGE - 1, temporary],
    [LARGE, path.join(temporary, 'none')],
    [2 ** 60, temporary],
  ] as const) {
    vi.stubEnv('TMPDIR', folder);
    await using block = await openBlock(most);
    const { offset, length } = (await block.add(parts[0])) && (await block.add(parts[1]));
    const { memory, folder: file } = await block.finish();
    expect(file).toBeUndefined();
    expect([...(memory?.data.subarray(offset, offset + length) ?? [])]).toEqual([...parts[1]]);
    expect(existsSync(temporary) && readdirSync(temporary)).toEqual([]);
  }
});

test('a matrix of 256 MiB is rounded on the way into a session, and nothing stays on the disk', async () => {
  const [out, columns] = [8192, 8192];
  const ends = (i: number) => ((i % 251) - 125) / 125;
  const read = async () =>
    new Uint8Array(Float32Array.from({ length: out * columns }, (_, i) => ends(i)).buffer);
  const weight: Weight = { name: 'w', dtype: 'f32', shape: [out, columns], read };
  const graph = trace((g) => ({
    y: matmul(g.input('x', 'f32', [symbol('rows'), columns]), g.weight('w', [out, columns]), {
      transposeB: true,
    }),
  }));
  await using backend = await createNodeBackend({ onNotice: () => {} });
  const executable = await backend.compile(graph, new Map([['w', weight]]), { dtype: 'q8' });
  expect(readdirSync(temporary)).toEqual([]);
  const one = new Float32Array(columns);
  one[77] = 1;
  const { y } = await executable.run({ x: new Tensor('float32', one, [1, columns]) });
  for (const row of [0, 1, 4095, 8191]) expect(y.data[row]).toBeCloseTo(ends(row * columns + 77), 2);
});
