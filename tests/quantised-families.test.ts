import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, readFloat32, weightFromArray } from '@detailflow/core';
import { type MatrixFormat, matrixFormats } from '@detailflow/onnx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { familyModels, logits } from './family-logits';

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

/** Of the difference to the exact logits, relative to their deviation. */
function error(exact: Float32Array, rounded: Float32Array): number {
  const mean = exact.reduce((a, b) => a + b, 0) / exact.length;
  const spread = exact.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return Math.sqrt(exact.reduce((sum, x, i) => sum + (x - rounded[i]) ** 2, 0) / spread);
}

/** The same device, whose matrices are rounded to so few bits and then computed with exactly. */
function roundingBackend(kind: 'q8' | 'q4'): Backend {
  return {
    ...{ name: `rounded to ${kind}`, createState: (tensors) => backend.createState(tensors) },
    async compile(graph, weights, options) {
      if (options?.dtype === undefined) return backend.compile(graph, weights); // of the tokenizer
      const chosen = matrixFormats(graph, kind);
      expect(chosen.size).toBeGreaterThan(6);
      const entries = [...weights].map(async ([name, weight]) => {
        const format = chosen.get(name);
        if (!format) return [name, weight] as const;
        const values = roundedRows(format, await readFloat32(weight), weight.shape[1]);
        return [name, weightFromArray(name, weight.shape, values)] as const;
      });
      return backend.compile(graph, new Map(await Promise.all(entries)));
    },
    async close() {},
    async [Symbol.asyncDispose]() {},
  };
}

/** Rounded as said in `quantise`, and widened again. */
function roundedRows({ bits, block }: MatrixFormat, values: Float32Array, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  const length = block === 'row' ? columns : block;
  for (let row = 0; row < values.length; row += columns) {
    for (let first = row; first < row + columns; first += length) {
      const part = values.subarray(first, Math.min(row + columns, first + length));
      const extreme = part.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
      const scale = Math.fround(bits === 8 ? Math.abs(extreme) / 127 : extreme / -8);
      const most = 2 ** (bits - 1) - 1;
      for (const [i, value] of part.entries()) {
        const level = scale === 0 ? 0 : Math.round(value / scale);
        out[first + i] = scale * Math.min(most, level);
      }
    }
  }
  return out;
}

test.each(familyModels)('%s in 8 and 4 bits', async (_, source, condition) => {
  const exact = await logits(source, condition, { device: backend, dtype: 'fp32' });
  expect(exact.length).toBeGreaterThan(1000);
  for (const dtype of ['q8', 'q4'] as const) {
    const rounded = await logits(source, condition, { device: roundingBackend(dtype), dtype });
    const found = await logits(source, condition, { device: backend, dtype });
    // What the few bits cost in exact arithmetic; the runtime rounds what goes into the products, too, to 8 bits.
    const cost = error(exact, rounded);
    expect(cost).toBeGreaterThan(1e-4);
    if (dtype === 'q8') expect(error(exact, found)).toBeLessThan(4 * cost);
    else expect(error(rounded, found)).toBeLessThan(0.35 * cost);
  }
});
