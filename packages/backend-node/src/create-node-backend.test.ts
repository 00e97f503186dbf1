import { readdirSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import {
  add,
  type Backend,
  type Graph,
  gather,
  matmul,
  mul,
  reshape,
  symbol,
  Tensor,
  trace,
  type Value,
  weightFromArray,
  writeRows,
} from '@detailflow/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const batch = symbol('batch');
const f32 = (...values: number[]) => new Tensor('float32', Float32Array.from(values), [values.length]);
const i32 = (...values: number[]) => new Tensor('int32', Int32Array.from(values), [values.length]);
const values = (tensor: Tensor) => Array.from(tensor.data as Float32Array);

/** total = factor * total + x, giving the old total: the whole buffer is replaced. */
const recurrence = (factor: number): Graph =>
  trace((g) => {
    const x = g.input('x', 'f32', [batch]);
    const total = g.state('total', [batch]);
    g.update('total', add(mul(total, factor), x));
    return { before: mul(total, 1) };
  });

/** Writes x into row `at` of a cache: the buffer is changed in place. */
const cache = trace((g) => {
  const rows = g.state('rows', [batch, 3]);
  const x = g.input('x', 'f32', [batch, 1]);
  g.update('rows', writeRows(rows, x, g.input('at', 'i32', [1]), 1));
  return { before: mul(rows, 1) };
});

const column = (...column: number[]) => new Tensor('float32', Float32Array.from(column), [column.length, 1]);

const plain = trace((g) => ({ y: mul(g.input('x', 'f32', [batch]), g.weight('w', [1])) }));
const weights = new Map([['w', weightFromArray('w', [1], Float32Array.of(2))]]);
const none = new Map();

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

test('what is fed, a weight, one result under two names and as rows of two states are all given out', async () => {
  const graph = trace((g) => {
    const [x, at] = [g.input('x', 'f32', [batch, 1]), g.input('at', 'i32', [1])];
    const [k, v] = ['k', 'v'].map((name) => g.state(name, [batch, 3]));
    const twice = mul(x, 2);
    g.update('k', writeRows(k, twice, at, 1));
    g.update('v', writeRows(v, twice, at, 1));
    return { x2: twice, again: twice, fed: reshape(x, x.shape), w: g.weight('w', [1]), place: mul(at, 1) };
  });
  const executable = await backend.compile(graph, weights);
  const state = await executable.createState({ batch: 2 });
  const given = await executable.run({ x: column(3, 4), at: i32(1) }, { state });
  expect(Object.fromEntries(Object.entries(given).map(([name, tensor]) => [name, values(tensor)]))).toEqual({
    x2: [6, 8],
    again: [6, 8],
    fed: [3, 4],
    w: [2],
    place: [1],
  });
  for (const name of ['k', 'v']) expect(values(await state.read(name))).toEqual([0, 6, 0, 0, 8, 0]);
  await state.dispose();
  await executable.dispose();
});

describe('state', () => {
  test('of several computations and executables side by side is kept apart', async () => {
    const [slow, fast] = [
      await backend.compile(recurrence(2), none),
      await backend.compile(recurrence(10), none),
    ];
    const states = [
      { executable: slow, state: await slow.createState({ batch: 1 }), x: [1], expected: [7] },
      { executable: slow, state: await slow.createState({ batch: 2 }), x: [1, 3], expected: [7, 21] },
      { executable: fast, state: await fast.createState({ batch: 1 }), x: [1], expected: [111] },
    ];
    for (let run = 0; run < 3; run++) {
      await Promise.all(
        states.map(({ executable, state, x }) => executable.run({ x: f32(...x) }, { state })),
      );
    }
    for (const { state, expected } of states) expect(values(await state.read('total'))).toEqual(expected);
  });

  test('goes through runs that were started together one after the other', async () => {
    const whole = await backend.compile(recurrence(10), none);
    const total = await whole.createState({ batch: 1 });
    const sums = await Promise.all([1, 2, 3].map((x) => whole.run({ x: f32(x) }, { state: total })));
    expect(sums.map(({ before }) => values(before)[0])).toEqual([0, 1, 12]);
    expect(values(await total.read('total'))).toEqual([123]);

    const inPlace = await backend.compile(cache, none);
    const rows = await inPlace.createState({ batch: 1 });
    const seen = await Promise.all(
      [0, 1, 2].map((at) => inPlace.run({ x: column(at + 1), at: i32(at) }, { state: rows })),
    );
    expect(seen.map(({ before }) => values(before))).toEqual([
      [0, 0, 0],
      [1, 0, 0],
      [1, 2, 0],
    ]);
  });

  test('is required, and must be of this executable', async () => {
    const [one, other] = [
      await backend.compile(recurrence(1), none),
      await backend.compile(recurrence(1), none),
    ];
    const foreign = await other.createState({ batch: 1 });
    const wrong = { code: 'invalid-argument', message: expect.stringContaining('createState()') };
    await expect(one.run({ x: f32(1) })).rejects.toMatchObject(wrong);
    await expect(one.run({ x: f32(1) }, { state: foreign })).rejects.toMatchObject(wrong);
  });

  test.each([
    [1, 3],
    [3, 1],
    [2, 3],
  ])('of batch %i is refused in a run of batch %i', async (made, fed) => {
    const executable = await backend.compile(cache, none);
    const state = await executable.createState({ batch: made });
    const x = column(...new Array(fed).fill(1));
    await expect(executable.run({ x, at: i32(0) }, { state })).rejects.toMatchObject({
      code: 'shape',
      entry: 'rows',
    });
    expect(values(await state.read('rows'))).toEqual(new Array(3 * made).fill(0));
  });

  test('reading gives a copy, of buffers that exist', async () => {
    const executable = await backend.compile(recurrence(1), none);
    const state = await executable.createState({ batch: 1 });
    ((await state.read('total')).data as Float32Array)[0] = 7;
    expect(values(await state.read('total'))).toEqual([0]);
    await expect(state.read('sum')).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('"sum"'),
    });
    await expect(executable.createState({})).rejects.toMatchObject({ code: 'shape' });
  });

  test('that is disposed says so', async () => {
    const executable = await backend.compile(recurrence(1), none);
    const state = await executable.createState({ batch: 1 });
    await state.dispose();
    await state.dispose();
    await expect(state.read('total')).rejects.toMatchObject({ code: 'closed' });
    await expect(executable.run({ x: f32(1) }, { state })).rejects.toMatchObject({ code: 'closed' });
  });

  test('is freed: 200 states of 1 MiB leave nothing behind', async () => {
    const size = 1 << 18;
    const executable = await backend.compile(recurrence(1), none);
    const x = new Tensor('float32', new Float32Array(size).fill(1), [size]);
    const oneSequence = async () => {
      const state = await executable.createState({ batch: size });
      await executable.run({ x }, { state });
      await state.dispose();
    };
    for (let i = 0; i < 40; i++) await oneSequence(); // until the allocators have what they keep
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 200; i++) await oneSequence();
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(80);
  });
});

describe('when a run fails', () => {
  const lookup = trace((g) => ({ y: gather(g.weight('table', [4]), g.input('at', 'i32', [batch])) }));
  const table = new Map([['table', weightFromArray('table', [4], Float32Array.of(1, 2, 3, 4))]]);

  test('the error names the runtime and the backend stays usable', async () => {
    const executable = await backend.compile(lookup, table);
    await expect(executable.run({ at: i32(9) })).rejects.toMatchObject({
      code: 'runtime',
      message: expect.stringContaining('ONNX Runtime'),
    });
    expect(values((await executable.run({ at: i32(3, 0) })).y)).toEqual([4, 1]);
  });

  test('rows that do not fit leave the state as it was', async () => {
    const executable = await backend.compile(cache, none);
    const state = await executable.createState({ batch: 1 });
    await executable.run({ x: column(5), at: i32(1) }, { state });
    for (const at of [3, -1]) {
      await expect(executable.run({ x: column(6), at: i32(at) }, { state })).rejects.toMatchObject({
        code: 'runtime',
      });
    }
    expect(values(await state.read('rows'))).toEqual([0, 5, 0]);
  });

  test('a tensor whose memory was given away is refused, and the next run works', async () => {
    const executable = await backend.compile(plain, weights);
    const x = f32(1, 2);
    structuredClone(x.data, { transfer: [(x.data as Float32Array).buffer as ArrayBuffer] });
    await expect(executable.run({ x })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(values((await executable.run({ x: f32(1, 2) })).y)).toEqual([2, 4]);
  });
});

test('feeds are left as they were, whole or as a part of a larger buffer', async () => {
  const executable = await backend.compile(plain, weights);
  const data = Float32Array.of(1, 2, 3, 4);
  const { y } = await executable.run({ x: new Tensor('float32', data.subarray(1, 3), [2]) });
  expect(values(y)).toEqual([4, 6]);
  expect(data).toEqual(Float32Array.of(1, 2, 3, 4));
});

test('an aborted signal keeps the run from starting', async () => {
  const executable = await backend.compile(recurrence(1), none);
  const state = await executable.createState({ batch: 1 });
  const reason = new Error('enough');
  await expect(executable.run({ x: f32(1) }, { state, signal: AbortSignal.abort(reason) })).rejects.toBe(
    reason,
  );
  expect(values(await state.read('total'))).toEqual([0]);
});

test('a weight that is missing or misshapen is named', async () => {
  await expect(backend.compile(plain, none)).rejects.toMatchObject({ code: 'weights', entry: 'w' });
});

test('an executable is disposed once and for all, others stay', async () => {
  const [first, second] = [await backend.compile(plain, weights), await backend.compile(plain, weights)];
  const running = first.run({ x: f32(1) });
  await first.dispose();
  await first.dispose();
  expect(values((await running).y)).toEqual([2]);
  await expect(first.run({ x: f32(1) })).rejects.toMatchObject({ code: 'closed' });
  await expect(first.createState({})).rejects.toMatchObject({ code: 'closed' });
  expect(values((await second.run({ x: f32(1) })).y)).toEqual([2]);
});

/** x x x ..., `times` matrix products of the given side one after the other; a matrix full of 1 / side stays as it is. */
function heavy(side: number, times: number): { graph: Graph; x: Tensor } {
  const graph = trace((g) => {
    let x: Value = g.input('x', 'f32', [side, side]);
    for (let i = 0; i < times; i++) x = matmul(x, x);
    return { y: x };
  });
  return { graph, x: new Tensor('float32', new Float32Array(side * side).fill(1 / side), [side, side]) };
}

describe('closing', () => {
  test('everything says closed afterwards, and disposing is still allowed', async () => {
    const own = await createNodeBackend({ threads: 1 });
    const executable = await own.compile(recurrence(1), none);
    const state = await executable.createState({ batch: 1 });
    await own.close();
    await own.close();
    const closed = { code: 'closed', message: 'the backend is closed' };
    await expect(own.compile(plain, weights)).rejects.toMatchObject(closed);
    await expect(executable.run({ x: f32(1) }, { state })).rejects.toMatchObject(closed);
    await expect(executable.createState({ batch: 1 })).rejects.toMatchObject(closed);
    await expect(state.read('total')).rejects.toMatchObject(closed);
    await state.dispose();
    await executable.dispose();
  });

  test('runs under way are rejected', async () => {
    const own = await createNodeBackend({ threads: 1 });
    const { graph, x } = heavy(512, 20);
    const executable = await own.compile(graph, none);
    const outcomes = Promise.allSettled([1, 2, 3].map(() => executable.run({ x })));
    await own.close();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'closed' } });
    }
  });
});

test('the event loop stays free during a run of a second or more', async () => {
  const side = 512;
  const timed = async (times: number) => {
    const { graph, x } = heavy(side, times);
    const executable = await backend.compile(graph, none);
    const started = performance.now();
    await executable.run({ x });
    const elapsed = performance.now() - started;
    await executable.dispose();
    return elapsed;
  };
  let [times, elapsed, started] = [100, 0, 0];
  let ticks: number[] = [];
  const timer = setInterval(() => ticks.push(performance.now()), 5);
  while (elapsed < 1000) {
    times *= 2;
    ticks = [];
    started = performance.now();
    elapsed = await timed(times);
  }
  clearInterval(timer);

  const gaps = ticks.map((tick, i) => tick - (i === 0 ? started : ticks[i - 1]));
  expect(ticks.length).toBeGreaterThan(10);
  expect(Math.max(...gaps)).toBeLessThan(elapsed / 2); // a run on this thread would be one gap of `elapsed`
});

describe('devices', () => {
  test('CUDA that is not there is refused with the way to get it', async () => {
    await expect(createNodeBackend({ device: 'cuda' })).rejects.toMatchObject({
      code: 'device-unavailable',
      message: expect.stringMatching(
        /"cuda" cannot be used: .+install\.js --onnxruntime-node-install=cuda12.+"cpu"/s,
      ),
    });
  });

  test('auto says in one line why it settles for the CPU', async () => {
    const notices: string[] = [];
    const own = await createNodeBackend({
      device: 'auto',
      threads: 1,
      onNotice: (message) => notices.push(message),
    });
    expect(own.name).toBe('cpu');
    expect(notices).toEqual([
      expect.stringMatching(/^DetailFlow runs on the CPU \(cuda: [^\n]+; webgpu: [^\n]+\)$/),
    ]);
    const executable = await own.compile(plain, weights);
    expect(values((await executable.run({ x: f32(3) })).y)).toEqual([6]);
    await own.close();
  });

  test.each([{ device: 'tpu' as 'cpu' }, { threads: 0 }, { threads: 1.5 }, { threads: Number.NaN }])(
    '%o is refused',
    async (options) => {
      await expect(createNodeBackend(options)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining(`${Object.values(options)[0]}`),
      });
    },
  );
});

test('more threads than cores are not made, and that is said', async () => {
  const threads = () => (process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0);
  const cores = availableParallelism();
  const notices: string[] = [];
  const before = threads();
  const own = await createNodeBackend({ threads: 1000, onNotice: (message) => notices.push(message) });
  const executable = await own.compile(plain, weights);
  expect(values((await executable.run({ x: f32(3) })).y)).toEqual([6]);
  expect(threads() - before).toBeLessThan(cores + 20);
  expect(notices).toEqual([
    `DetailFlow uses ${cores} of the 1000 threads asked for: there are no more cores`,
  ]);
  await own.close();
  const quiet = await createNodeBackend({ threads: cores, onNotice: (message) => notices.push(message) });
  await quiet.close();
  expect(notices).toHaveLength(1);
});

test('a profile says how long each operation took', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'profile-'));
  const profiled = await createNodeBackend({ threads: 1, profile: path.join(folder, 'graph') });
  try {
    const executable = await profiled.compile(plain, weights);
    await executable.run({ x: f32(1, 2, 3) });
    await executable.dispose();
    const [file] = await readdir(folder);
    const events = JSON.parse(await readFile(path.join(folder, file), 'utf8')) as {
      args?: { op_name?: string };
      dur: number;
    }[];
    expect(events.filter(({ args, dur }) => args?.op_name === 'Mul' && dur >= 0)).not.toHaveLength(0);
  } finally {
    await profiled.close();
    await rm(folder, { recursive: true });
  }
});
