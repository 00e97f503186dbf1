import { createNodeBackend } from '@detailflow/backend-node';
import { matmul, rmsNorm, symbol, Tensor, trace, type Value, weightFromArray } from '@detailflow/core';
import { quantise, toOnnx } from '@detailflow/onnx';
import ort from 'onnxruntime-node';
import { expect, test } from 'vitest';

/** Numbers by formula, with an outlier here and there. */
const numbers = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => {
    const x = Math.sin(12.9898 * (i + seed)) * 43758.5453;
    return (x - Math.floor(x) - 0.5) * (i % 97 === 0 ? 20 : 1);
  });

/** The same without outliers, so that one scale a row suffices. */
const even = (length: number, seed: number) => numbers(length, seed).map((x) => x % 0.5);

const sizes: [number, number][] = [
  [480, 160],
  [256, 1024],
  [100, 200],
  [33, 7],
];

test.each(['q8', 'q4'] as const)(
  'in %s a row has the same bits in whatever company, and the product is near',
  async (dtype) => {
    await using backend = await createNodeBackend({ threads: 2, onNotice: () => {} });
    for (const [out, columns] of sizes) {
      const weights = numbers(out * columns, 1);
      const graph = trace((g) => ({
        y: matmul(g.input('x', 'f32', [symbol('rows'), columns]), g.weight('w', [out, columns]), {
          transposeB: true,
        }),
      }));
      const source = new Map([['w', weightFromArray('w', [out, columns], weights)]]);
      const product = await backend.compile(graph, source, { dtype });
      const values = numbers(33 * columns, 5);
      const rowsOf = async (first: number, count: number) => {
        const x = new Tensor('float32', values.slice(first * columns, (first + count) * columns), [
          count,
          columns,
        ]);
        return (await product.run({ x })).y.data as Float32Array;
      };
      const all = await rowsOf(0, 33);
      for (const count of [1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 17, 31]) {
        for (const first of [0, 33 - count]) {
          const expected = all.subarray(first * out, (first + count) * out);
          expect([count, first, await rowsOf(first, count)]).toEqual([count, first, expected]);
        }
      }
      expect(relativeError(all, exactProduct(values, weights, columns))).toBeLessThan(
        dtype === 'q8' ? 0.03 : 0.2,
      );
    }
  },
);

test('halves are for another backend', async () => {
  await using backend = await createNodeBackend({ threads: 1, onNotice: () => {} });
  const graph = trace((g) => ({ y: matmul(g.weight('w', [1, 1]), g.weight('w', [1, 1])) }));
  const weights = new Map([['w', weightFromArray('w', [1, 1], Float32Array.of(1))]]);
  await expect(backend.compile(graph, weights, { dtype: 'fp16' })).rejects.toMatchObject({
    code: 'unsupported',
    message: expect.stringContaining('@detailflow/backend-webgpu'),
  });
});

function exactProduct(values: Float32Array, weights: Float32Array, columns: number): Float64Array {
  const [rows, out] = [values.length / columns, weights.length / columns];
  return Float64Array.from({ length: rows * out }, (_, i) => {
    const [row, column] = [Math.floor(i / out) * columns, (i % out) * columns];
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += values[row + k] * weights[column + k];
    return sum;
  });
}

function relativeError(found: Float32Array, exact: Float64Array): number {
  const power = (values: Iterable<number>) => [...values].reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(power(exact.map((x, i) => x - found[i])) / power(exact));
}

/** What `product` makes of `rows` rows. */
async function productOf(
  values: Float32Array,
  { weights, columns, normed }: { weights: Float32Array; columns: number; normed: boolean },
): Promise<Float32Array> {
  await using backend = await createNodeBackend({ threads: 2, onNotice: () => {} });
  const out = weights.length / columns;
  const graph = trace((g): Record<string, Value> => {
    const x = g.input('x', 'f32', [symbol('rows'), columns]);
    const from = normed ? rmsNorm(x, g.weight('n', [columns]), 1e-6) : x;
    const y = matmul(from, g.weight('w', [out, columns]), { transposeB: true });
    // Not the last product, and after a norm: then what goes in keeps 8 bits.
    return normed ? { y, z: matmul(y, g.weight('v', [4, out]), { transposeB: true }) } : { y };
  });
  const ones = new Float32Array(columns).fill(1);
  const all = [
    weightFromArray('n', [columns], ones),
    weightFromArray('w', [out, columns], weights),
    weightFromArray('v', [4, out], even(4 * out, 9)),
  ];
  const used = new Map(all.filter(({ name }) => normed || name === 'w').map((one) => [one.name, one]));
  const compiled = await backend.compile(graph, used, { dtype: 'q8' });
  const x = new Tensor('float32', values, [values.length / columns, columns]);
  return (await compiled.run({ x })).y.data as Float32Array;
}

test('a row product is that of integers: levels of weights and of inputs, by the largest of each row', async () => {
  const [rows, out, columns] = [5, 24, 96];
  const [values, weights] = [numbers(rows * columns, 3), even(out * columns, 4)];
  const level = (x: number, largest: number) => Math.round((x / largest) * 127);
  const largestOf = (all: Float32Array, row: number) =>
    all.subarray(row * columns, (row + 1) * columns).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const normed = values.map((x, i) => {
    const row = values.subarray(Math.floor(i / columns) * columns, (Math.floor(i / columns) + 1) * columns);
    return x / Math.sqrt(row.reduce((a, b) => a + b * b, 0) / columns + 1e-6);
  });
  const found = await productOf(values, { weights, columns, normed: true });
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < out; column++) {
      const [a, b] = [largestOf(normed, row), largestOf(weights, column)];
      let sum = 0;
      for (let k = 0; k < columns; k++) {
        sum += level(normed[row * columns + k], a) * level(weights[column * columns + k], b);
      }
      const expected = (sum * a * b) / 127 ** 2;
      // One entry that is rounded the other way is worth a step of each.
      expect(Math.abs(found[row * out + column] - expected)).toBeLessThan((2 * a * b) / 127);
    }
  }
});

test('inputs of the last product keep more: the error is that of the weights alone', async () => {
  const [rows, out, columns] = [9, 40, 320];
  const [values, weights] = [numbers(rows * columns, 7), even(out * columns, 8)];
  const found = await productOf(values, { weights, columns, normed: false });
  const rounded = weights.map((x, i) => {
    const row = weights.subarray(Math.floor(i / columns) * columns, (Math.floor(i / columns) + 1) * columns);
    const scale = row.reduce((a, b) => Math.max(a, Math.abs(b)), 0) / 127;
    return Math.floor(x / scale + 0.5) * scale;
  });
  expect(relativeError(found, exactProduct(values, rounded, columns))).toBeLessThan(1e-3);
});

test('a row of zeros stays one, and what is no number stays none, in its own row', async () => {
  const columns = 64;
  const [values, weights] = [numbers(5 * columns, 1), even(16 * columns, 2)];
  const hostile = values.slice();
  hostile.fill(0, columns, 2 * columns);
  hostile[2 * columns + 5] = Number.NaN;
  hostile[3 * columns + 6] = Number.POSITIVE_INFINITY;
  const rowOf = (all: Float32Array, row: number) => [...all.subarray(row * 16, (row + 1) * 16)];
  const clean = await productOf(values, { weights, columns, normed: false });
  const found = await productOf(hostile, { weights, columns, normed: false });
  expect(rowOf(found, 1).map(Math.abs)).toEqual(new Array(16).fill(0));
  for (const row of [2, 3]) expect(rowOf(found, row).some(Number.isFinite)).toBe(false);
  for (const row of [0, 4]) expect(rowOf(found, row)).toEqual(rowOf(clean, row));
});

test.each(['q5', '', null, 8])('the dtype %j is none', async (dtype) => {
  await using backend = await createNodeBackend({ threads: 1 });
  const graph = trace((g) => ({ y: g.weight('w', [2]) }));
  const weights = new Map([['w', weightFromArray('w', [2], Float32Array.of(1, 2))]]);
  await expect(backend.compile(graph, weights, { dtype } as never)).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(/dtype is .*; give fp32, fp16, q8, q4/),
  });
});

test('levels without a sign give the same bits', async () => {
  const columns = 96;
  const [weights, x] = [even(40 * columns, 2), new Tensor('float32', numbers(7 * columns, 5), [7, columns])];
  const { values, scales } = quantise(weights, { bits: 8, block: 'row', name: 'w', out: 40, in: columns });
  const graph = trace((g) => ({
    y: matmul(g.input('x', 'f32', [symbol('rows'), columns]), g.weight('w', [40, columns]), {
      transposeB: true,
    }),
  }));
  const bytes = new Uint8Array(values.buffer);
  const results = [];
  for (const unsigned of [false, true]) {
    const matrix = {
      ...{ bits: 8 as const, block: 'row' as const, out: 40, in: columns, unsigned, fine: true },
      values: { inline: unsigned ? bytes.map((level) => level ^ 128) : bytes },
      scales: { inline: new Uint8Array(scales.buffer) },
    };
    const { bytes: model } = toOnnx(graph, {
      ...{ dialect: 'onnxruntime', quantised: new Map([['w', matrix]]) },
      placeWeight: () => ({ inline: new Float32Array(0) }),
    });
    const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
    results.push((await session.run({ x: new ort.Tensor('float32', x.data, x.dims) })).y.data);
    await session.release();
  }
  expect(results[1]).toEqual(results[0]);
});
