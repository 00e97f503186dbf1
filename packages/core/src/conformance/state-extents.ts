import type { Backend, State } from '../backend';
import { symbol } from '../dim';
import { DetailFlowError, type ErrorCode } from '../errors';
import { trace } from '../graph';
import { mul } from '../ops/elementwise';
import { writeRowsAt } from '../ops/write-rows-at';
import { Tensor } from '../tensor';
import { requireRefusal } from './refusal';

const [batch, length] = [symbol('batch'), symbol('length')];

/** Writes rows at places of their own among as many as `every` counts, and says what was there before. */
const graph = trace((g) => {
  const rows = g.state('rows', [batch, 1, length, 1]);
  const x = g.input('x', 'f32', [batch, 1, 1, 1]);
  const every = g.input('every', 'i32', [length]);
  g.update('rows', writeRowsAt(rows, x, g.input('places', 'i32', [batch, 1]), every));
  return { before: mul(rows, 1) };
});

/**
 * Gives an axis of a state more entries and fewer, between runs on it and on its windows.
 * @throws DetailFlowError `runtime` naming what is wrong, or the wrong use that is not refused
 */
export async function checkStateExtents(backend: Backend): Promise<void> {
  const executable = await backend.compile(graph, new Map());
  const state = await executable.createState({ batch: 2, length: 4 });
  const resize = async (axis: number, extent: number) => {
    if (!state.resize) throw new DetailFlowError('runtime', 'state extents: the state cannot be resized');
    await state.resize(axis, extent);
  };
  const expect = async (extent: number, expected: readonly number[]) => {
    const { data, dims } = await state.read('rows');
    const found = `${dims.join()}: ${Array.from(data as Float32Array).join()}`;
    const wanted = `2,1,${extent},1: ${expected.join()}`;
    if (found !== wanted) {
      throw new DetailFlowError('runtime', `state extents: the buffer is ${found}, must be ${wanted}`);
    }
  };
  const write = (values: readonly number[], places: readonly number[], extent: number, on: State = state) =>
    executable.run(
      {
        x: new Tensor('float32', Float32Array.from(values), [values.length, 1, 1, 1]),
        places: new Tensor('int32', Int32Array.from(places), [places.length, 1]),
        every: new Tensor(
          'int32',
          Int32Array.from({ length: extent }, (_, i) => i),
          [extent],
        ),
      },
      { state: on },
    );
  await resize(2, 2);
  await expect(2, [0, 0, 0, 0]);
  await write([1, 2], [0, 1], 2);
  await resize(2, 3);
  await expect(3, [1, 0, 0, 0, 2, 0]);
  await write([3, 4], [2, 2], 3);
  const second = state.window?.(1, 1);
  if (second) await write([5], [0], 3, second);
  await resize(2, 4);
  await expect(4, [1, 0, 3, 0, second ? 5 : 0, 2, 4, 0]);
  if (second) {
    const { before } = await write([5], [3], 4, second); // the window has changed along
    if ((before.data as Float32Array).join() !== '5,2,4,0') {
      throw new DetailFlowError(
        'runtime',
        `state extents: a window read [${before.data}], must read [5,2,4,0]`,
      );
    }
  }
  await state.copyEntry?.(0, 1);
  await resize(2, 1);
  await resize(2, 4);
  await expect(4, state.copyEntry ? [1, 0, 0, 0, 1, 0, 0, 0] : [1, 0, 0, 0, 0, 0, 0, 0]);

  const refused = (code: ErrorCode, what: string, use: () => unknown) =>
    requireRefusal('state extents', { code, what }, use);
  for (const [axis, extent] of [
    [2, 5],
    [2, 0],
    [2, 1.5],
    [0, 3],
    [4, 1],
    [-1, 1],
  ])
    await refused('shape', `${extent} entries of axis ${axis}`, () => resize(axis, extent));
  await refused('shape', 'a run of other extents', () => write([1, 1], [0, 0], 3));
  await expect(4, state.copyEntry ? [1, 0, 0, 0, 1, 0, 0, 0] : [1, 0, 0, 0, 0, 0, 0, 0]);
  if (state.copyEntry) {
    await state.resize?.(2, 2, { first: 1, count: 1 }); // the first entry may hold anything now
    await state.resize?.(2, 3, { first: 1, count: 1 });
    await state.copyEntry(1, 0);
    await expect(3, [1, 0, 0, 1, 0, 0]);
    await refused('shape', 'keeping entries that are not there', async () =>
      state.resize?.(2, 2, { first: 1, count: 2 }),
    );
  }
  await resize(2, 4);
  await resize(0, 1);
  if (second) await refused('shape', 'a window of what is left out', () => write([1], [0], 4, second));
  await state.dispose();
  await refused('closed', 'a disposed state', () => resize(2, 2));
  await executable.dispose();
}
