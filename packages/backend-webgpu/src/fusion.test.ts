import {
  add,
  cachedAttention,
  evaluateShape,
  type GraphBuilder,
  less,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rope,
  silu,
  slice,
  swapHeads,
  symbol,
  Tensor,
  trace,
  type Value,
  writeRows,
} from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

type Build = (g: GraphBuilder, x: Value) => Record<string, Value>;

/** Numbers between -1 and 1 that do not repeat soon. */
const numbers = (dims: readonly number[], seed: number) => {
  const size = dims.reduce((a, b) => a * b, 1);
  return new Tensor(
    'float32',
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7 + seed)),
    dims,
  );
};

describe.skipIf(missing !== undefined)('kernels that join operations', () => {
  let gpu: WebGPUBackend;
  beforeAll(async () => {
    gpu = await createWebGPUBackend();
  });
  afterAll(() => gpu?.close());

  /** Runs a graph on WebGPU and on the interpreter with x [batch, rows, width]. @returns kernels that it took */
  async function kernelsOf(build: Build, dims: readonly [number, number, number]): Promise<number> {
    const graph = trace((g) => build(g, g.input('x', 'f32', [symbol('batch'), symbol('rows'), dims[2]])));
    const inputs = [...graph.inputs].filter(([name]) => name !== 'x');
    const feeds: Record<string, Tensor> = { x: numbers(dims, 0) };
    for (const [i, [name, { shape }]] of inputs.entries()) {
      feeds[name] = numbers(evaluateShape(shape, { batch: dims[0], rows: dims[1] }), i + 1);
    }
    const judge = await createReferenceBackend().compile(graph, new Map());
    const executable = await gpu.compile(graph, new Map());
    const expected = await judge.run(feeds);
    const before = gpu.counts;
    const found = await executable.run(feeds);
    const again = await executable.run(feeds);
    const { dispatches, submissions } = gpu.counts;
    expect(submissions - before.submissions).toBe(2);
    for (const [name, { data, dims: shape }] of Object.entries(expected)) {
      expect(found[name].dims).toEqual(shape);
      expect(again[name].data).toEqual(found[name].data);
      const [a, b] = [found[name].data as Float32Array, data as Float32Array];
      expect(Math.max(...a.map((y, i) => Math.abs(y - b[i]) / (1 + Math.abs(b[i]))))).toBeLessThan(2e-5);
    }
    await executable.dispose();
    return (dispatches - before.dispatches) / 2;
  }

  const extents: [number, number, number][] = [
    [1, 1, 5],
    [2, 3, 16],
    [3, 7, 40],
    [2, 8, 33],
  ];
  /** More rows than one kernel takes. */
  const many: [number, number, number] = [2, 150, 20];

  const feedForward = (g: GraphBuilder, x: Value) => {
    const width = x.shape[2] as number;
    const y = rmsNorm(x, g.input('scale', 'f32', [width]), 1e-3);
    const part = (name: string) => matmul(y, g.input(name, 'f32', [37, width]), { transposeB: true });
    return { y: mul(silu(part('gate')), part('up')) };
  };
  const projection = (g: GraphBuilder, x: Value) => {
    const width = x.shape[2] as number;
    const product = matmul(x, g.input('w', 'f32', [width, 19]));
    return { y: add(product, g.input('bias', 'f32', [19])) };
  };
  const residual = (g: GraphBuilder, x: Value) => {
    const width = x.shape[2] as number;
    const product = matmul(x, g.input('w', 'f32', [width, width]), { transposeB: true });
    return { y: add(x, product) };
  };

  test.each([
    { name: 'a norm, two products and what joins them', build: feedForward, separate: 4 },
    { name: 'a product and its bias', build: projection, separate: 2 },
    { name: 'a product added to what it was made of', build: residual, separate: 2 },
  ])('$name: one kernel for few rows', async ({ build, separate }) => {
    for (const dims of extents) expect(await kernelsOf(build, dims)).toBe(1);
    expect(await kernelsOf(build, many)).toBe(separate);
  });

  test('a product that others need as well, and one that decides, stay right', async () => {
    const build: Build = (g, x) => {
      const width = x.shape[2] as number;
      const product = matmul(x, g.input('w', 'f32', [width, width]));
      const other = matmul(x, g.input('v', 'f32', [width, width]));
      return { y: add(product, other), product, isLess: less(matmul(x, g.input('u', 'f32', [width, 4])), 0) };
    };
    for (const dims of [...extents, many]) await kernelsOf(build, dims);
  });

  test('attention reads heads where a product left them, and writes them side by side', async () => {
    const heads = 2;
    const build: Build = (g, x) => {
      const width = x.shape[2] as number;
      const [batch, rows] = x.shape;
      const all = matmul(x, g.input('w', 'f32', [3 * width, width]), { transposeB: true });
      const part = (i: number, count: number) =>
        reshape(slice(all, -1, i * width, (i + count) * width), [batch, rows, count * heads, width / heads]);
      const tables = ['cos', 'sin'].map((name) => g.input(name, 'f32', [rows, width / heads / 2]));
      const turned = rope(part(0, 2), tables[0], tables[1]);
      const [q, k] = [0, 1].map((i) => swapHeads(slice(turned, 2, i * heads, (i + 1) * heads)));
      const past = [batch, heads, 3, width / heads];
      const found = cachedAttention(q, k, swapHeads(part(2, 1)), {
        ...{ scale: 0.5, pastK: g.input('pastK', 'f32', past), pastV: g.input('pastV', 'f32', past) },
        pastBias: g.input('pastBias', 'f32', [3]),
      });
      return { y: reshape(swapHeads(found), [batch, rows, width]), q };
    };
    // Product, rotation, attention, and q, which is asked for.
    for (const [batch, rows] of [
      [1, 5],
      [3, 2],
      [2, 1],
    ])
      expect(await kernelsOf(build, [batch, rows, 8])).toBe(4);
  });

  test('rows of a state over the state itself, and two states that were one', async () => {
    const places = [4, 2];
    const rows = () =>
      new Tensor(
        'float32',
        Float32Array.from({ length: 8 }, (_, i) => i),
        places,
      );
    const first = new Tensor('int32', Int32Array.of(2), [1]);
    const same = await gpu.compile(
      trace((g) => {
        const a = g.state('a', places);
        g.state('b', places);
        const y = add(a, g.input('x', 'f32', places));
        g.update('a', y);
        g.update('b', y);
        return {};
      }),
      new Map(),
    );
    const shift = await gpu.compile(
      trace((g) => {
        const a = g.state('a', places);
        g.update('a', writeRows(a, slice(a, 0, 0, 2), g.input('first', 'i32', [1]), 0));
        return {};
      }),
      new Map(),
    );
    const over = await gpu.compile(
      trace((g) => {
        const fresh = g.input('fresh', 'f32', [2, 2]);
        g.update('a', writeRows(g.state('a', places), fresh, g.input('first', 'i32', [1]), 0));
        return {};
      }),
      new Map(),
    );
    const zeros = () => new Tensor('float32', new Float32Array(8), places);
    const state = await gpu.createState({ a: zeros(), b: zeros() });
    const read = async (name: string) => [...((await state.read(name)).data as Float32Array)];
    await same.run({ x: rows() }, { state });
    await over.run({ fresh: new Tensor('float32', Float32Array.of(9, 9, 9, 9), [2, 2]), first }, { state });
    expect(await read('a')).toEqual([0, 1, 2, 3, 9, 9, 9, 9]);
    expect(await read('b')).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await shift.run({ first }, { state });
    expect(await read('a')).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
    await state.dispose();
    for (const executable of [same, shift, over]) await executable.dispose();
  });
});
