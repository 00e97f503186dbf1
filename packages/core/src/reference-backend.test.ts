import { describe, expect, test } from 'vitest';
import { checkSharedState } from './conformance/shared-state';
import { checkStateExtents } from './conformance/state-extents';
import { checkStateWindows } from './conformance/state-windows';
import { symbol } from './dim';
import { type Graph, trace } from './graph';
import { add, mul } from './ops/elementwise';
import { gather, writeRows } from './ops/indexing';
import { slice } from './ops/layout';
import { createReferenceBackend } from './reference-backend';
import { f32, i32, noWeights, weightsOf } from './test-graphs';

const batch = symbol('batch');

/** total += x, giving the old total. */
const counter = trace((g) => {
  const x = g.input('x', 'f32', [batch]);
  const total = g.state('total', [batch]);
  g.update('total', add(total, x));
  return { before: add(total, 0) };
});

const plain = trace((g) => ({ y: mul(g.input('x', 'f32', [batch]), 2) }));

const compile = (graph: Graph) => createReferenceBackend().compile(graph, noWeights);

test('computes in float64 and rounds only the results', async () => {
  const graph = trace((g) => {
    const x = g.input('x', 'f32', [1]);
    return { y: add(add(x, 1e-12), mul(x, -1)) };
  });
  const executable = await compile(graph);
  const { y } = await executable.run({ x: f32(1) });
  expect((y.data as Float32Array)[0]).toBeCloseTo(1e-12, 15); // float32 would lose it
});

describe('state', () => {
  test('lives from run to run and starts from zeros', async () => {
    const executable = await compile(counter);
    const state = await executable.createState({ batch: 2 });
    const seen: number[][] = [];
    for (const x of [f32(1, 2), f32(10, 20)]) {
      seen.push(Array.from((await executable.run({ x }, { state })).before.data as Float32Array));
    }
    expect(seen).toEqual([
      [0, 0],
      [1, 2],
    ]);
    expect((await state.read('total')).data).toEqual(Float32Array.of(11, 22));
  });

  test('of two computations is kept apart', async () => {
    const executable = await compile(counter);
    const [a, b] = [await executable.createState({ batch: 1 }), await executable.createState({ batch: 2 })];
    await executable.run({ x: f32(1) }, { state: a });
    await executable.run({ x: f32(5, 6) }, { state: b });
    expect((await a.read('total')).data).toEqual(Float32Array.of(1));
    expect((await b.read('total')).data).toEqual(Float32Array.of(5, 6));
  });

  test('reading gives a copy', async () => {
    const executable = await compile(counter);
    const state = await executable.createState({ batch: 1 });
    ((await state.read('total')).data as Float32Array)[0] = 7;
    expect((await state.read('total')).data).toEqual(Float32Array.of(0));
  });

  test('is required, and must be of this executable', async () => {
    const executable = await compile(counter);
    const foreign = await (await compile(counter)).createState({ batch: 1 });
    const wrong = { code: 'invalid-argument', message: expect.stringContaining('createState()') };
    await expect(executable.run({ x: f32(1) })).rejects.toMatchObject(wrong);
    await expect(executable.run({ x: f32(1) }, { state: foreign })).rejects.toMatchObject(wrong);
    await expect((await compile(plain)).createState({})).resolves.toBeDefined();
  });

  test('must have the extents of the run', async () => {
    const executable = await compile(counter);
    const state = await executable.createState({ batch: 3 });
    await expect(executable.run({ x: f32(1) }, { state })).rejects.toMatchObject({
      code: 'shape',
      entry: 'total',
    });
    await expect(executable.createState({})).rejects.toMatchObject({
      code: 'shape',
      message: expect.stringContaining('"batch"'),
    });
  });

  test('is not touched by a run that fails', async () => {
    const graph = trace((g) => {
      const rows = g.state('rows', [3]);
      g.update('rows', writeRows(rows, g.input('x', 'f32', [1]), g.input('at', 'i32', [1]), 0));
      return { picked: gather(rows, g.input('index', 'i32', [1])) };
    });
    const executable = await compile(graph);
    const state = await executable.createState({});
    await executable.run({ x: f32(4), at: i32(1), index: i32(0) }, { state });
    const bad = executable.run({ x: f32(9), at: i32(1), index: i32(3) }, { state });
    await expect(bad).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('gather: row 3'),
    });
    const outside = executable.run({ x: f32(9), at: i32(3), index: i32(0) }, { state });
    await expect(outside).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('writeRows'),
    });
    expect((await state.read('rows')).data).toEqual(Float32Array.of(0, 4, 0));
  });

  test('disposed or unknown buffers are refused', async () => {
    const executable = await compile(counter);
    const state = await executable.createState({ batch: 1 });
    await expect(state.read('sum')).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('"sum"'),
    });
    await state.dispose();
    await state.dispose();
    await expect(state.read('total')).rejects.toMatchObject({ code: 'closed' });
    await expect(executable.run({ x: f32(1) }, { state })).rejects.toMatchObject({ code: 'closed' });
  });
});

test('symbolic slices beyond the end are refused when they run', async () => {
  const graph = trace((g) => {
    g.input('n', 'f32', [symbol('n')]);
    return { y: slice(g.input('x', 'f32', [batch]), 0, 0, symbol('n')) };
  });
  const executable = await compile(graph);
  const { y } = await executable.run({ x: f32(1, 2, 3), n: f32(0, 0) });
  expect(y.data).toEqual(Float32Array.of(1, 2));
  await expect(executable.run({ x: f32(1), n: f32(0, 0) })).rejects.toMatchObject({ code: 'shape' });
});

test('a weight that is missing or misshapen is named when the graph is compiled', async () => {
  const graph = trace((g) => ({ y: add(g.weight('w', [2]), g.weight('v', [1])) }));
  const backend = createReferenceBackend();
  await expect(backend.compile(graph, weightsOf({ w: f32(1, 2) }))).rejects.toMatchObject({
    code: 'weights',
    entry: 'v',
  });
  await expect(backend.compile(graph, weightsOf({ w: f32(1, 2, 3), v: f32(1) }))).rejects.toMatchObject({
    code: 'weights',
    entry: 'w',
    message: expect.stringContaining('[3], must be [2]'),
  });
  // Weights that the graph does not use do not matter.
  await expect(
    backend.compile(graph, weightsOf({ w: f32(1, 2), v: f32(1), u: f32(1) })),
  ).resolves.toBeDefined();
});

test('an aborted signal keeps the run from starting', async () => {
  const executable = await compile(counter);
  const state = await executable.createState({ batch: 1 });
  const reason = new Error('enough');
  const run = executable.run({ x: f32(1) }, { state, signal: AbortSignal.abort(reason) });
  await expect(run).rejects.toBe(reason);
  expect((await state.read('total')).data).toEqual(Float32Array.of(0));
});

test('what is disposed or closed says so', async () => {
  const backend = createReferenceBackend();
  const [first, second] = [await backend.compile(plain, noWeights), await backend.compile(plain, noWeights)];
  await first.dispose();
  await first.dispose();
  await expect(first.run({ x: f32(1) })).rejects.toMatchObject({ code: 'closed' });
  await expect(first.createState({})).rejects.toMatchObject({ code: 'closed' });
  expect((await second.run({ x: f32(1) })).y.data).toEqual(Float32Array.of(2));
  await backend.close();
  await backend.close();
  await expect(second.run({ x: f32(1) })).rejects.toMatchObject({ code: 'closed' });
  await expect(backend.compile(plain, noWeights)).rejects.toMatchObject({ code: 'closed' });
});

test('executables share a state of the backend', () => checkSharedState(createReferenceBackend()));
test('states have windows', () => checkStateWindows(createReferenceBackend()));

test('states grow and shrink', () => checkStateExtents(createReferenceBackend()));
