import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import {
  type Backend,
  type Condition,
  readFloat32,
  Tensor,
  type WeightDType,
  weightFromArray,
} from '@detailflow/core';
import { type MatrixFormat, matrixFormats } from '@detailflow/onnx';
import { load, type ModelSource } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';

const family = (name: string) => path.join(import.meta.dirname, 'fixtures/golden/family', name);
const gpt = (ar: string): ModelSource => ({ tokenizer: family('llamagen/vq'), ar: family(ar) });

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

/** Logits of all steps, along the same tokens for every storage of the weights. */
async function logits(
  source: ModelSource,
  condition: Condition,
  { device = backend, dtype = 'fp32' }: { device?: Backend; dtype?: WeightDType } = {},
): Promise<Float32Array> {
  const model = await load(source, { backend: device, dtype });
  const { tokenModel } = model;
  if (!tokenModel) throw new Error('no AR model');
  const session = await tokenModel.begin([condition]);
  const all: number[] = [];
  let chosen: Int32Array | undefined;
  while (session.position < tokenModel.tokens) {
    all.push(...(await session.predict(chosen)).data);
    const [from, count] = [session.position, session.nextCount];
    if (from + count >= tokenModel.tokens) break;
    chosen = Int32Array.from({ length: count }, (_, i) => (7 * (from + i)) % tokenModel.vocabularySize);
  }
  await session.dispose();
  await model.dispose();
  return Float32Array.from(all);
}

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
  for (let row = 0; row < values.length; row += columns) {
    for (let first = row; first < row + columns; first += block) {
      const part = values.subarray(first, Math.min(row + columns, first + block));
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

const text: Condition = {
  features: new Tensor(
    'float32',
    Float32Array.from({ length: 120 }, (_, i) => Math.sin(i)),
    [6, 20],
  ),
};

test.each<[string, ModelSource, Condition]>([
  ['LlamaGen', gpt('llamagen/gpt_c2i'), 1],
  ['LlamaGen, texts', gpt('llamagen/gpt_t2i'), text],
  ['PAR, four regions', gpt('par/g4'), 1],
  ['PAR, sixteen regions', gpt('par/g16'), 1],
  ['VAR', family('var'), 1],
  ['FlexVAR', family('flexvar'), 1],
])('%s in 8 and 4 bits', async (_, source, condition) => {
  const exact = await logits(source, condition);
  expect(exact.length).toBeGreaterThan(1000);
  for (const dtype of ['q8', 'q4'] as const) {
    const rounded = await logits(source, condition, { device: roundingBackend(dtype) });
    const found = await logits(source, condition, { dtype });
    // What the few bits cost in exact arithmetic; the runtime rounds what goes into the products, too, to 8 bits.
    const cost = error(exact, rounded);
    expect(cost).toBeGreaterThan(1e-4);
    if (dtype === 'q8') expect(error(exact, found)).toBeLessThan(4 * cost);
    else expect(error(rounded, found)).toBeLessThan(0.35 * cost);
  }
});
