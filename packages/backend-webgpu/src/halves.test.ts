import {
  add,
  attention,
  concat,
  conv2d,
  type GraphBuilder,
  gather,
  layerNorm,
  linear,
  matmul,
  mul,
  neg,
  reshape,
  rmsNorm,
  silu,
  softmax,
  sum,
  Tensor,
  trace,
  transpose,
  type Value,
  type Weight,
  weightFromArray,
} from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { float16Bits, roundedWeight } from '@detailflow/core/rounded-weight';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

type Dims = readonly number[];
const sizeOf = (dims: Dims) => dims.reduce((a, b) => a * b, 1);

/** Numbers between -1 and 1 that do not repeat soon; every seventh so small that its half is subnormal. */
const numbers = (dims: Dims, seed: number) =>
  Float32Array.from({ length: sizeOf(dims) }, (_, i) => Math.sin(i * 1.7 + seed) * (i % 7 === 3 ? 3e-5 : 1));
const tensor = (dims: Dims, seed: number) => new Tensor('float32', numbers(dims, seed), dims);

/** A weight stored as halves, whose bytes begin where \`offset\` says. */
function half(name: string, shape: Dims, bits: ArrayLike<number>, offset = 0): Weight {
  return {
    ...{ name, shape, dtype: 'f16' },
    read: async () => {
      const bytes = new Uint8Array(offset + 2 * bits.length);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < bits.length; i++) view.setUint16(offset + 2 * i, bits[i], true);
      return bytes.subarray(offset);
    },
  };
}
const asHalf = (name: string, shape: Dims, seed: number) =>
  half(name, shape, Array.from(numbers(shape, seed), float16Bits));

/** Bytes of buffers that hold these weights. */
const bytesAs = (bytes: number, ...shapes: Dims[]) =>
  shapes.reduce((total, dims) => total + 4 * Math.max(1, Math.ceil((sizeOf(dims) * bytes) / 4)), 0);

describe.skipIf(missing !== undefined)('weights in halves', () => {
  let gpu: WebGPUBackend;
  beforeAll(async () => {
    gpu = await createWebGPUBackend();
  });
  afterAll(() => gpu?.close());

  const used = () => gpu.memory().used;
  /** Ends what was let go of before, so that only what follows counts. */
  async function compiled(
    graph: Parameters<WebGPUBackend['compile']>[0],
    weights: readonly Weight[],
    dtype?: 'fp32' | 'fp16',
  ) {
    const before = used();
    const map = new Map(weights.map((weight) => [weight.name, weight]));
    const executable = await gpu.compile(graph, map, { dtype });
    return { executable, bytes: used() - before };
  }

  type Build = (g: GraphBuilder, weight: (name: string) => Value) => Value;
  interface Case {
    readonly name: string;
    readonly weights: Readonly<Record<string, Dims>>;
    readonly inputs?: Readonly<Record<string, Dims>>;
    readonly build: Build;
  }

  const product = (rows: Dims, inner: number, columns: number): Case => ({
    name: `a product of ${rows.join(' x ')} rows by ${columns} x ${inner}`,
    weights: { w: [columns, inner] },
    inputs: { x: [...rows, inner] },
    build: (g, weight) => matmul(g.input('x', 'f32', [...rows, inner]), weight('w'), { transposeB: true }),
  });
  const feedForward = (rows: number, inner: number): Case => ({
    name: `a norm, two products and SwiGLU of ${rows} rows of ${inner}`,
    weights: { scale: [inner], gate: [7, inner], up: [7, inner], bias: [7] },
    inputs: { x: [rows, inner] },
    build: (g, weight) => {
      const y = rmsNorm(g.input('x', 'f32', [rows, inner]), weight('scale'), 1e-3);
      const part = (name: string) => matmul(y, weight(name), { transposeB: true });
      return add(mul(silu(part('gate')), part('up')), weight('bias'));
    },
  });
  const cases: readonly Case[] = [
    ...[[1], [2], [3], [2, 2], [5], [300]].map((rows) => product(rows, 40, 19)),
    ...[[1], [3], [16], [17]].map((rows) => product(rows, 1028, 5)),
    ...[1, 5, 6, 33].map((inner) => product([2], inner, 19)),
    product([3], 0, 4),
    product([3], 8, 0),
    product([0], 8, 4),
    feedForward(1, 8),
    feedForward(4, 36),
    feedForward(6, 1024),
    feedForward(3, 9),
    feedForward(260, 12),
    {
      name: 'a product by a matrix that is not turned, of few rows and of many',
      weights: { w: [13, 5] },
      inputs: { x: [3, 13], z: [290, 13] },
      build: (g, weight) =>
        concat(
          [3, 290].map((rows, i) => matmul(g.input('xz'[i], 'f32', [rows, 13]), weight('w'))),
          0,
        ),
    },
    {
      name: 'a weight on the left of a product, and batches of matrices that are repeated',
      weights: { a: [1, 3, 8], b: [2, 5, 8] },
      build: (_, weight) => matmul(weight('a'), weight('b'), { transposeB: true }),
    },
    {
      name: 'a product turned on the left',
      weights: { a: [9, 3], b: [9, 4] },
      build: (_, weight) => matmul(weight('a'), weight('b'), { transposeA: true }),
    },
    {
      name: 'rows of a table',
      weights: { table: [5, 3] },
      inputs: { rows: [4] },
      build: (g, weight) => gather(weight('table'), g.input('rows', 'i32', [4])),
    },
    {
      name: 'norms',
      weights: { x: [3, 7], weight: [7], bias: [7] },
      build: (_, weight) => softmax(layerNorm(weight('x'), weight('weight'), weight('bias'), 1e-5)),
    },
    {
      name: 'a convolution',
      weights: { kernel: [3, 1, 3, 3], bias: [3, 1, 1] },
      inputs: { x: [1, 1, 5, 5] },
      build: (g, weight) =>
        add(conv2d(g.input('x', 'f32', [1, 1, 5, 5]), weight('kernel'), { padding: 1 }), weight('bias')),
    },
    {
      name: 'attention to what is learnt',
      weights: { q: [1, 2, 3, 5], k: [1, 2, 4, 5], v: [1, 2, 4, 5], bias: [3, 4] },
      build: (_, weight) =>
        attention(weight('q'), weight('k'), weight('v'), { scale: 0.5, bias: weight('bias') }),
    },
    {
      name: 'views, sums and joined arrays',
      weights: { a: [3, 5], b: [5, 3] },
      build: (_, weight) => concat([transpose(weight('a'), [1, 0]), weight('b'), sum(weight('b'), [1])], 1),
    },
    {
      name: 'a weight as it is, cut otherwise',
      weights: { a: [3, 5] },
      build: (_, weight) => reshape(weight('a'), [5, 3]),
    },
  ];

  test.each(cases)('$name: bits and sums as of float32, in half the memory', async (one) => {
    const { weights, inputs = {}, build } = one;
    const graph = trace((g) => ({ y: build(g, (name) => g.weight(name, weights[name])) }));
    const stored = Object.entries(weights).map(([name, dims], i) => asHalf(name, dims, i));
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, dims], i) =>
        name === 'rows'
          ? [name, new Tensor('int32', Int32Array.of(4, 0, 2, 2), dims)]
          : [name, tensor(dims, i + 5)],
      ),
    );
    const [halves, wide] = [await compiled(graph, stored), await compiled(graph, stored, 'fp32')];
    const constants = halves.bytes - bytesAs(2, ...Object.values(weights));
    expect(wide.bytes).toBe(bytesAs(4, ...Object.values(weights)) + constants);
    expect(constants).toBeLessThanOrEqual(8);
    const [{ y }, { y: same }] = [await halves.executable.run(feeds), await wide.executable.run(feeds)];
    expect(y.dims).toEqual(same.dims);
    expect(new Uint32Array((y.data as Float32Array).buffer)).toEqual(
      new Uint32Array((same.data as Float32Array).buffer),
    );
    const judge = await createReferenceBackend().compile(
      graph,
      new Map(stored.map((weight) => [weight.name, weight])),
    );
    const expected = (await judge.run(feeds)).y.data as Float32Array;
    const most = Math.max(1, ...expected.map(Math.abs));
    for (const [i, value] of (y.data as Float32Array).entries()) {
      expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(1e-5 * most);
    }
    await halves.executable.dispose();
    await wide.executable.dispose();
  });

  test('every finite half is read exactly, one by one and by fours', async () => {
    const all = Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => (bits & 0x7c00) !== 0x7c00);
    const dims = [all.length / 4, 4];
    const graph = trace((g) => {
      const w = g.weight('w', dims);
      return { w, turned: linear(g.input('x', 'f32', [4, 4]), w) };
    });
    const { executable, bytes } = await compiled(graph, [half('w', dims, all)]);
    expect(bytes).toBe(2 * all.length);
    const ones = Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0));
    const { w, turned } = await executable.run({ x: new Tensor('float32', ones, [4, 4]) });
    const wide = await compiled(graph, [half('w', dims, all)], 'fp32');
    const { w: expected } = await wide.executable.run({ x: new Tensor('float32', ones, [4, 4]) });
    expect(Buffer.from((w.data as Float32Array).buffer)).toEqual(
      Buffer.from((expected.data as Float32Array).buffer),
    );
    const [found, values] = [turned.data as Float32Array, expected.data as Float32Array];
    const wrong = values.filter((value, i) => found[(i % 4) * dims[0] + Math.floor(i / 4)] !== value);
    expect([...wrong]).toEqual([]);
    await executable.dispose();
    await wide.executable.dispose();
  });

  test('a state that becomes a weight is float32', async () => {
    const graph = trace((g) => {
      g.state('t', [3]);
      g.update('t', g.weight('w', [3]));
      return {};
    });
    const { executable } = await compiled(graph, [half('w', [3], [0x3c00, 0x4000, 0x4200])]);
    const state = await executable.createState({});
    await executable.run({}, { state });
    await executable.run({}, { state });
    expect([...((await state.read('t')).data as Float32Array)]).toEqual([1, 2, 3]);
    await state.dispose();
    await executable.dispose();
  });

  /** A table, two matrices, a norm, a bias and a matrix that is not turned. */
  const shapes = { table: [5, 8], w: [8, 8], scale: [8], bias: [8], position: [1, 4, 8], plain: [8, 3] };
  const mixed = trace((g) => {
    const weight = (name: keyof typeof shapes) => g.weight(name, shapes[name]);
    const x = add(gather(weight('table'), g.input('rows', 'i32', [1, 4])), weight('position'));
    return {
      y: matmul(linear(rmsNorm(x, weight('scale'), 1e-3), weight('w'), weight('bias')), weight('plain')),
    };
  });
  const names = Object.keys(shapes) as (keyof typeof shapes)[];
  const wideWeights = () =>
    names.map((name, i) => weightFromArray(name, shapes[name], numbers(shapes[name], i)));

  test('dtype fp16 rounds matrices of products and tables, and nothing else', async () => {
    const feeds = { rows: new Tensor('int32', Int32Array.of(4, 0, 1, 1), [1, 4]) };
    const asked = await compiled(mixed, wideWeights(), 'fp16');
    const plain = await compiled(mixed, wideWeights());
    const { table, w, ...rest } = shapes;
    expect(plain.bytes - asked.bytes).toBe(bytesAs(4, table, w) - bytesAs(2, table, w));
    expect(plain.bytes).toBeGreaterThanOrEqual(bytesAs(4, table, w, ...Object.values(rest)));
    const rounded = names.map((name, i) =>
      name === 'table' || name === 'w'
        ? asHalf(name, shapes[name], i)
        : weightFromArray(name, shapes[name], numbers(shapes[name], i)),
    );
    const same = await compiled(mixed, rounded, 'fp32');
    const [found, expected, exact] = [
      await asked.executable.run(feeds),
      await same.executable.run(feeds),
      await plain.executable.run(feeds),
    ];
    expect(found.y.data).toEqual(expected.y.data);
    expect(found.y.data).not.toEqual(exact.y.data);
    for (const { executable } of [asked, plain, same]) await executable.dispose();
  });

  test('a weight goes by the name that the graph has for it, whatever it calls itself', async () => {
    const graph = trace((g) => ({ y: linear(g.input('x', 'f32', [1, 4]), g.weight('w', [2, 4])) }));
    const weight = weightFromArray('module.w', [2, 4], numbers([2, 4], 1));
    const before = used();
    const executable = await gpu.compile(graph, new Map([['w', weight]]), { dtype: 'fp16' });
    expect(used() - before).toBe(16);
    await executable.dispose();
  });

  test('the same weights in other formats are float32 unless halves are asked for', async () => {
    const graph = trace((g) => ({ y: linear(g.input('x', 'f32', [1, 4]), g.weight('w', [3, 4])) }));
    const bf16 = (): Weight => ({ ...half('w', [3, 4], new Array(12).fill(0x3f80)), dtype: 'bf16' });
    const [as, asked] = [await compiled(graph, [bf16()]), await compiled(graph, [bf16()], 'fp16')];
    expect([as.bytes, asked.bytes]).toEqual([48, 24]);
    const x = new Tensor('float32', Float32Array.of(1, 2, 3, 4), [1, 4]);
    for (const { executable } of [as, asked]) {
      expect([...((await executable.run({ x })).y.data as Float32Array)]).toEqual([10, 10, 10]);
      await executable.dispose();
    }
  });

  const outside = [65505, -7e4, 3e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
  test.each(outside)('%d has no half: refused by name, and nothing stays behind', async (value) => {
    const before = used();
    const weights = wideWeights().map((weight) => {
      if (weight.name !== 'w') return weight;
      const data = numbers(shapes.w, 1);
      data[17] = value;
      return weightFromArray('w', shapes.w, data);
    });
    await expect(compiled(mixed, weights, 'fp16')).rejects.toMatchObject({
      ...{ name: 'DetailFlowError', code: 'weights', entry: 'w' },
      message: expect.stringMatching(/at 17 does not fit fp16, which ends at 65504; take dtype fp32/),
    });
    expect(used()).toBe(before);
    // Where nobody rounds it, it is what it is.
    const { executable } = await compiled(mixed, weights);
    await executable.dispose();
  });

  test('the largest half is one', async () => {
    const graph = trace((g) => ({ y: linear(g.input('x', 'f32', [1, 2]), g.weight('w', [1, 2])) }));
    const weights = [weightFromArray('w', [1, 2], Float32Array.of(65504, -65504))];
    const { executable } = await compiled(graph, weights, 'fp16');
    const x = new Tensor('float32', Float32Array.of(1, 0.5), [1, 2]);
    expect([...((await executable.run({ x })).y.data as Float32Array)]).toEqual([32752]);
    await executable.dispose();
  });

  test('a stored half that is no finite number is held as float32, and refused where halves are asked for', async () => {
    const graph = trace((g) => ({ y: neg(g.weight('w', [3])) }));
    const stored = [half('w', [3], [0x3c00, 0xfc00, 0x7e00])];
    const { executable, bytes } = await compiled(graph, stored);
    expect(bytes).toBe(12);
    expect([...((await executable.run({})).y.data as Float32Array)]).toEqual([
      -1,
      Number.POSITIVE_INFINITY,
      Number.NaN,
    ]);
    await executable.dispose();
    await expect(compiled(graph, stored, 'fp16')).rejects.toMatchObject({
      ...{ code: 'weights', entry: 'w' },
      message: expect.stringContaining('-Infinity at 1'),
    });
  });

  test('bytes that lie anyhow, too few of them, and too many', async () => {
    const graph = trace((g) => ({ y: neg(g.weight('w', [3])) }));
    const bits = [0x3c00, 0x4000, 0x0001];
    const shared = half('w', [3], bits);
    const inShared: Weight = {
      ...shared,
      read: async () => {
        const bytes = new Uint8Array(new SharedArrayBuffer(6));
        bytes.set(await shared.read());
        return bytes;
      },
    };
    for (const weight of [half('w', [3], bits, 1), half('w', [3], bits, 2), inShared]) {
      const { executable, bytes } = await compiled(graph, [weight]);
      expect(bytes).toBe(8);
      expect([...((await executable.run({})).y.data as Float32Array)]).toEqual([-1, -2, -(2 ** -24)]);
      await executable.dispose();
    }
    const before = used();
    for (const wrong of [[0x3c00, 0], [0, 0, 0, 0], []]) {
      for (const dtype of [undefined, 'fp16'] as const) {
        const weight = { ...half('w', [3], wrong), shape: [3] };
        await expect(compiled(graph, [weight], dtype)).rejects.toMatchObject({ code: 'weights', entry: 'w' });
      }
    }
    expect(used()).toBe(before);
  });

  test('few bits are not held, nor rounded once more', async () => {
    const graph = trace((g) => ({ y: linear(g.input('x', 'f32', [1, 16]), g.weight('w', [1, 16])) }));
    const part = (name: string, dtype: 'u8' | 'f32', shape: Dims, bytes: Uint8Array): Weight => ({
      ...{ name, dtype, shape },
      read: async () => bytes,
    });
    const weight = roundedWeight('w', [1, 16], {
      ...{ bits: 8, block: 16 },
      values: part('w.q8', 'u8', [1, 1, 16], new Uint8Array(16).fill(130)),
      scales: part('w.scales', 'f32', [1, 1], new Uint8Array(Float32Array.of(0.5).buffer)),
    });
    await expect(compiled(graph, [weight], 'fp16')).rejects.toMatchObject({ code: 'dtype' });
    const { executable, bytes } = await compiled(graph, [weight]);
    expect(bytes).toBe(64);
    const x = new Tensor('float32', new Float32Array(16).fill(1), [1, 16]);
    expect([...((await executable.run({ x })).y.data as Float32Array)]).toEqual([16]);
    await executable.dispose();
    for (const dtype of ['q8', 'q4'] as const) {
      await expect(gpu.compile(graph, new Map([['w', weight]]), { dtype })).rejects.toMatchObject({
        code: 'unsupported',
        message: expect.stringContaining('fp32 or fp16'),
      });
    }
  });
});
