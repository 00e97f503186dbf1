import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, type Condition, Tensor, type WeightDType } from '@detailflow/core';
import { softmax } from '@detailflow/sampler';
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
async function logits(source: ModelSource, dtype: WeightDType, condition: Condition): Promise<Float32Array> {
  const model = await load(source, { backend, dtype });
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

/** Mean KL divergence in nats of the distributions of all places. */
function divergence(exact: Float32Array, rounded: Float32Array, vocabulary: number): number {
  const rows = exact.length / vocabulary;
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const part = (values: Float32Array) => values.subarray(row * vocabulary, (row + 1) * vocabulary);
    const [p, q] = [softmax(part(exact)), softmax(part(rounded))];
    for (let k = 0; k < p.length; k++) total += p[k] * Math.log(p[k] / q[k]);
  }
  return total / rows;
}

const text: Condition = {
  features: new Tensor(
    'float32',
    Float32Array.from({ length: 120 }, (_, i) => Math.sin(i)),
    [6, 20],
  ),
};

test.each<[string, ModelSource, Condition, number]>([
  ['LlamaGen', gpt('llamagen/gpt_c2i'), 1, 96],
  ['LlamaGen, texts', gpt('llamagen/gpt_t2i'), text, 96],
  ['PAR, four regions', gpt('par/g4'), 1, 96],
  ['PAR, sixteen regions', gpt('par/g16'), 1, 96],
  ['VAR', family('var'), 1, 80],
  ['FlexVAR', family('flexvar'), 1, 72],
])('%s in 8 and 4 bits', async (name, source, condition, vocabulary) => {
  const exact = await logits(source, 'fp32', condition);
  const [q8, q4] = [await logits(source, 'q8', condition), await logits(source, 'q4', condition)];
  const [eight, four] = [q8, q4].map((rounded) => divergence(exact, rounded, vocabulary));
  console.log(`${name}: KL ${eight.toExponential(2)} nats in q8, ${four.toExponential(2)} in q4`);
  // Random weights and nearly flat logits, as those of DetailFlow's golden models, whose bounds these are.
  expect(eight).toBeGreaterThan(0);
  expect(eight).toBeLessThan(0.015);
  expect(four).toBeGreaterThan(eight);
  expect(four).toBeLessThan(0.45);
});
