import { createNodeBackend } from '@detailflow/backend-node';
import { matmul, symbol, Tensor, trace, weightFromArray } from '@detailflow/core';
import { expect, test } from 'vitest';

/** Numbers by formula, with an outlier here and there. */
const numbers = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => {
    const x = Math.sin(12.9898 * (i + seed)) * 43758.5453;
    return (x - Math.floor(x) - 0.5) * (i % 97 === 0 ? 20 : 1);
  });

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
