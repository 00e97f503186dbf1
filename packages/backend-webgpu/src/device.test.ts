import {
  add,
  type Backend,
  cachedAttention,
  matmul,
  mul,
  softmax,
  sum,
  symbol,
  Tensor,
  trace,
  weightFromArray,
  writeRows,
} from '@detailflow/core';
import { afterEach, describe, expect, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

const vector = (...values: number[]) => new Tensor('float32', Float32Array.from(values), [values.length]);
const values = (tensor: Tensor) => [...(tensor.data as Float32Array)];

const doubling = () => trace((g) => ({ y: mul(g.input('x', 'f32', [symbol('n')]), 2) }));

describe.skipIf(missing !== undefined)('a WebGPU device', () => {
  const opened: WebGPUBackend[] = [];
  const open = async (options?: Parameters<typeof createWebGPUBackend>[0]) => {
    const backend = await createWebGPUBackend(options);
    opened.push(backend);
    return backend;
  };
  afterEach(async () => {
    for (const backend of opened.splice(0)) await backend.close();
  });

  test('memory does not grow over 1000 runs, and weights are uploaded once', async () => {
    const backend = await open();
    const before = backend.memory().used;
    const weight = weightFromArray(
      'w',
      [8, 8],
      Float32Array.from({ length: 64 }, (_, i) => i / 64),
    );
    const executable = await backend.compile(
      trace((g) => {
        const x = g.input('x', 'f32', [symbol('rows'), 8]);
        const total = g.state('total', [1, 1]);
        const y = softmax(matmul(x, g.weight('w', [8, 8])));
        g.update('total', add(total, mul(sum(mul(sum(y, [0]), 0.01), [1]), 1)));
        return { y };
      }),
      new Map([['w', weight]]),
    );
    const state = await executable.createState({});
    const run = async (rows: number) => {
      const x = new Tensor('float32', new Float32Array(rows * 8).fill(1), [rows, 8]);
      const { y } = await executable.run({ x }, { state });
      expect(y.dims).toEqual([rows, 8]);
    };
    for (let i = 0; i < 20; i++) await run(1 + (i % 5));
    const [settled, counts] = [backend.memory(), backend.counts];
    for (let i = 0; i < 1000; i++) await run(1 + (i % 5));
    expect(backend.memory()).toEqual(settled);
    // Each run brings its one feed, and takes its one output.
    expect(backend.counts.uploads - counts.uploads).toBe(1000);
    expect(backend.counts.reads - counts.reads).toBe(1000);
    expect(backend.counts.submissions - counts.submissions).toBe(1000);
    expect(backend.counts.recordingMs).toBeGreaterThan(counts.recordingMs);
    await state.dispose();
    await executable.dispose();
    await (await backend.compile(doubling(), new Map())).run({ x: vector(1) }); // submits what was released
    expect(backend.memory().used).toBeLessThanOrEqual(before + 64);
  });

  test('a cache is written in place, after all have read it', async () => {
    const backend = await open();
    const [heads, width, places] = [2, 4, 16];
    const executable = await backend.compile(
      trace((g) => {
        const cache = [1, heads, places, width];
        const [pastK, pastV] = [g.state('k', cache), g.state('v', cache)];
        const fresh = g.input('fresh', 'f32', [1, heads, 2, width]);
        const first = g.input('first', 'i32', [1]);
        const pastBias = g.input('bias', 'f32', [places]);
        g.update('k', writeRows(pastK, fresh, first, 2));
        g.update('v', writeRows(pastV, mul(fresh, 2), first, 2));
        return { y: cachedAttention(fresh, fresh, fresh, { scale: 1, pastK, pastV, pastBias }) };
      }),
      new Map(),
    );
    const state = await executable.createState({});
    const fresh = new Tensor(
      'float32',
      Float32Array.from({ length: 16 }, (_, i) => i),
      [1, heads, 2, width],
    );
    const feeds = (first: number) => ({
      fresh,
      first: new Tensor('int32', Int32Array.of(first), [1]),
      bias: new Tensor('float32', new Float32Array(places).fill(-1e30), [places]),
    });
    await executable.run(feeds(0), { state });
    expect(values(await state.read('k')).slice(0, 3)).toEqual([0, 1, 2]); // reading keeps nothing back
    const { used } = backend.memory();
    await executable.run(feeds(2), { state });
    expect(backend.memory().used).toBe(used);
    const cache = values(await state.read('k'));
    for (const head of [0, 1]) {
      const rows = cache.slice(head * places * width, head * places * width + 4 * width);
      const given = [...(fresh.data as Float32Array)].slice(head * 8, head * 8 + 8);
      expect(rows).toEqual([...given, ...given]);
    }
    await state.dispose();
    await executable.dispose();
  });

  test('a device that is lost: a typed error at once, and a new backend computes', async () => {
    const backend = await open();
    const executable = await backend.compile(doubling(), new Map());
    expect(values((await executable.run({ x: vector(1, 2) })).y)).toEqual([2, 4]);
    const running = executable.run({ x: vector(3) });
    backend.device.destroy();
    await expect(Promise.allSettled([running])).resolves.toHaveLength(1); // done or lost, but not stuck
    await expect(executable.run({ x: vector(3) })).rejects.toMatchObject({ code: 'device-lost' });
    await expect(
      backend.compile(doubling(), new Map()).then((e) => e.run({ x: vector(1) })),
    ).rejects.toMatchObject({
      code: 'device-lost',
    });
    await executable.dispose();
    await backend.close();

    const again = await (await open()).compile(doubling(), new Map());
    expect(values((await again.run({ x: vector(5) })).y)).toEqual([10]);
  });

  test('what the device objects to is an error of the run, or of the next where nobody waits', async () => {
    const own = (await open()).device;
    const backend = await open({ device: own });
    const sound = await backend.compile(doubling(), new Map());
    await sound.run({ x: vector(1) });
    const quiet = await backend.compile(
      trace((g) => {
        g.update('total', add(g.state('total', [1]), 0.5));
        return {};
      }),
      new Map(),
    );
    const loud = await backend.compile(
      trace((g) => ({ y: add(g.input('x', 'f32', [1]), 0.25) })),
      new Map(),
    );
    const state = await quiet.createState({});
    const make = own.createShaderModule.bind(own);
    own.createShaderModule = () => make({ code: 'fn start() { nonsense }' });
    const objection = {
      name: 'DetailFlowError',
      code: 'runtime',
      message: expect.stringContaining('WebGPU'),
    };
    await expect(loud.run({ x: vector(1) })).rejects.toMatchObject(objection);
    await expect(loud.run({ x: vector(1) })).rejects.toMatchObject(objection);
    const told: unknown[] = [];
    const collect = (error: unknown) => told.push(error);
    await quiet.run({}, { state }).catch(collect);
    await sound.run({ x: vector(1) }).catch(collect);
    expect(told).toMatchObject([objection]);
    // A call that no run made.
    own.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
    await expect(sound.run({ x: vector(1) })).rejects.toMatchObject(objection);
    own.createShaderModule = make;
    expect(values((await sound.run({ x: vector(3) })).y)).toEqual([6]);
  });

  test('jobs queue up; one that fails or is cancelled does not touch the others', async () => {
    const backend = await open();
    const executable = await backend.compile(doubling(), new Map());
    const cancelled = new AbortController();
    const jobs = [
      executable.run({ x: vector(1) }),
      executable.run({ x: vector(1, 2) }, { signal: cancelled.signal }),
      executable.run({ wrong: vector(1) }),
      executable.run({ x: vector(7) }),
    ];
    cancelled.abort(new Error('enough'));
    const [first, second, third, fourth] = await Promise.allSettled(jobs);
    expect(first.status === 'fulfilled' && values(first.value.y)).toEqual([2]);
    expect(second).toMatchObject({ status: 'rejected', reason: { message: 'enough' } });
    expect(third).toMatchObject({ status: 'rejected', reason: { code: 'invalid-argument' } });
    expect(fourth.status === 'fulfilled' && values(fourth.value.y)).toEqual([14]);
  });

  test('too large for the adapter: said before anything is allocated, with the bytes', async () => {
    const own = (await open()).device;
    const backend = await open({ device: own });
    const most = own.limits.maxStorageBufferBindingSize;
    const count = most / 4 + 1;
    const executable = await backend.compile(
      trace((g) => ({
        y: add(g.input('x', 'f32', [symbol('n'), 1]), g.input('z', 'f32', [1, symbol('m')])),
      })),
      new Map(),
    );
    const side = Math.ceil(Math.sqrt(count));
    const before = backend.memory().used;
    const feeds = {
      x: new Tensor('float32', new Float32Array(side), [side, 1]),
      z: new Tensor('float32', new Float32Array(side), [1, side]),
    };
    await expect(executable.run(feeds)).rejects.toMatchObject({
      code: 'limit',
      message: expect.stringContaining(`${4 * side * side} bytes`),
    });
    expect(backend.memory().used).toBeLessThan(before + 16 * side);
  });

  test('closed and misused', async () => {
    const backend = await open();
    const executable = await backend.compile(doubling(), new Map());
    await expect(backend.compile(doubling(), new Map(), { dtype: 'q8' })).rejects.toMatchObject({
      code: 'unsupported',
    });
    await backend.close();
    await expect(executable.run({ x: vector(1) })).rejects.toMatchObject({ code: 'closed' });
    const rejected: Promise<unknown> = (backend as Backend).compile(doubling(), new Map());
    await expect(rejected).rejects.toMatchObject({ code: 'closed' });
  });
});
