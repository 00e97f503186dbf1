import type { Backend } from '../backend';
import { symbol } from '../dim';
import { DetailFlowError, type ErrorCode } from '../errors';
import { trace } from '../graph';
import { add, mul } from '../ops/elementwise';
import { writeRowsAt } from '../ops/write-rows-at';
import { Tensor } from '../tensor';
import { requireRefusal } from './refusal';

const batch = symbol('batch');

/** Adds x to a running total, and writes it at places of its own for every entry. */
const graph = trace((g) => {
  const x = g.input('x', 'f32', [batch, 1, 2, 1]);
  const total = g.state('total', [batch, 1, 2, 1]);
  g.update('total', add(total, x));
  const rows = g.state('rows', [batch, 1, 4, 1]);
  const every = g.constant(Int32Array.of(0, 1, 2, 3), [4], 'i32');
  g.update('rows', writeRowsAt(rows, x, g.input('places', 'i32', [batch, 2]), every));
  return { before: mul(total, 1) };
});

/**
 * Runs a graph on windows of a state: each changes its own entries alone, and entries are copied.
 * @throws DetailFlowError `runtime` naming the buffer that is wrong, or the wrong use that is not refused
 */
export async function checkStateWindows(backend: Backend): Promise<void> {
  const executable = await backend.compile(graph, new Map());
  const state = await executable.createState({ batch: 4 });
  const windowOf = (first: number, count: number) => {
    const window = state.window?.(first, count);
    if (window) return window;
    throw new DetailFlowError('runtime', 'state windows: the backend has them, its states have not');
  };
  const feeds = (values: readonly number[], places: readonly number[]) => ({
    x: new Tensor('float32', Float32Array.from(values), [values.length / 2, 1, 2, 1]),
    places: new Tensor('int32', Int32Array.from(places), [places.length / 2, 2]),
  });
  const middle = windowOf(1, 2);
  await executable.run(feeds([1, 2, 3, 4], [0, 1, 2, 3]), { state: middle });
  await executable.run(feeds([10, 20, 30, 40], [3, 0, 1, 0]), { state: middle });
  await executable.run(feeds([5, 6], [1, 2]), { state: windowOf(3, 1) });
  const expectBuffer = async (name: string, expected: readonly number[]) => {
    const found = Array.from((await state.read(name)).data as Float32Array);
    if (found.join() === expected.join()) return;
    throw new DetailFlowError('runtime', `state windows: ${name} is [${found}], must be [${expected}]`);
  };
  await expectBuffer('total', [0, 0, 11, 22, 33, 44, 5, 6]);
  await expectBuffer('rows', [0, 0, 0, 0, 20, 2, 0, 10, 40, 30, 3, 4, 0, 5, 6, 0]);
  await state.copyEntry?.(2, 0);
  await expectBuffer('total', [33, 44, 11, 22, 33, 44, 5, 6]);
  await expectBuffer('rows', [40, 30, 3, 4, 20, 2, 0, 10, 40, 30, 3, 4, 0, 5, 6, 0]);
  const { before } = await executable.run(feeds([1, 1], [0, 1]), { state: windowOf(0, 1) });
  if ((before.data as Float32Array).join() !== '33,44') {
    throw new DetailFlowError('runtime', `state windows: a run read [${before.data}], must read [33,44]`);
  }

  const refused = (code: ErrorCode, what: string, use: () => unknown) =>
    requireRefusal('state windows', { code, what }, use);
  for (const [first, count] of [
    [3, 2],
    [-1, 1],
    [0, 0],
    [0.5, 1],
  ])
    await refused('shape', `a window of ${count} from ${first}`, () => windowOf(first, count));
  await refused('shape', 'a copy from beyond the end', async () => state.copyEntry?.(4, 0));
  await refused('shape', 'a run of other extents', () =>
    executable.run(feeds([1, 1], [0, 1]), { state: windowOf(0, 2) }),
  );
  await refused('invalid-argument', 'reading a window', async () => middle.read('total'));
  await state.dispose();
  await refused('closed', 'a window of a disposed state', () =>
    executable.run(feeds([1, 1, 1, 1], [0, 1, 0, 1]), { state: middle }),
  );
  await executable.dispose();
}
