import { createNodeBackend } from '@detailflow/backend-node';
import { add, symbol, Tensor, trace } from '@detailflow/core';
import { afterEach, expect, test, vi } from 'vitest';
import { StateMemory } from './state-memory';

afterEach(() => {
  vi.useRealTimers();
});

const taken = (memory: StateMemory, ...dims: number[]) => {
  const array = memory.take('float32', dims);
  memory.clean(array);
  return array;
};

test('what a dropped state held is taken again by one of the same size, as zeros', () => {
  const memory = new StateMemory();
  const first = taken(memory, 2, 3).fill(7);
  memory.giveBack([first]);
  expect(taken(memory, 2, 2).buffer).not.toBe(first.buffer);
  const again = taken(memory, 3, 2);
  expect(again.buffer).toBe(first.buffer);
  expect([...again]).toEqual([0, 0, 0, 0, 0, 0]);
  expect(taken(memory, 3, 2).buffer).not.toBe(first.buffer); // one array is not given twice
});

test('it is kept for a while, until it is cleared, and no more than half a gibibyte of it', () => {
  vi.useFakeTimers();
  const memory = new StateMemory();
  const [one, other] = [taken(memory, 4), taken(memory, 8)];
  memory.giveBack([one]);
  memory.giveBack([other]);
  vi.advanceTimersByTime(10_000);
  expect([one.buffer.byteLength, other.buffer.byteLength]).toEqual([16, 32]);
  vi.advanceTimersByTime(120_000);
  expect([one.buffer.byteLength, other.buffer.byteLength]).toEqual([0, 0]);
  const third = taken(memory, 4);
  memory.giveBack([third]);
  memory.clear();
  expect(third.buffer.byteLength).toBe(0);
  const large = [0, 1, 2].map(() => memory.take('float32', [2 ** 26])); // a quarter of a gibibyte each, never touched
  memory.giveBack(large);
  expect(large.map(({ buffer }) => buffer.byteLength)).toEqual([0, 2 ** 28, 2 ** 28]);
  memory.clear();
});

test('a state is zeros whatever the one before it held, resized or not, before and after its first run', async () => {
  const [rows, places] = [symbol('rows'), symbol('places')];
  const graph = trace((g) => {
    const kept = g.state('kept', [rows, places, 2]);
    g.update('kept', add(kept, g.input('x', 'f32', [rows, places, 2])));
    return { before: add(kept, 0) };
  });
  const backend = await createNodeBackend({ threads: 1 });
  try {
    const executable = await backend.compile(graph, new Map());
    const ones = (...dims: number[]) =>
      new Tensor('float32', new Float32Array(dims.reduce((a, b) => a * b)).fill(1), dims);
    for (const extents of [[4], [1, 4], [2, 1, 3], [4]]) {
      const state = await executable.createState({ rows: 3, places: 4 });
      for (const extent of extents) await state.resize?.(1, extent);
      const now = extents.at(-1) as number;
      const { before } = await executable.run({ x: ones(3, now, 2) }, { state });
      expect([...(before.data as Float32Array)]).toEqual(Array(3 * now * 2).fill(0));
      await state.resize?.(1, 4);
      const found = [...((await state.read('kept')).data as Float32Array)];
      const expected = [0, 1, 2].flatMap(() =>
        [0, 1, 2, 3].flatMap((place) => Array(2).fill(Number(place < now))),
      );
      expect(found).toEqual(expected);
      await executable.run({ x: ones(3, 4, 2) }, { state }); // leaves something everywhere
      await state.dispose();
    }
  } finally {
    await backend.close();
  }
});
