import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend } from '@detailflow/core';
import { bytesOf, generatedSource } from '@detailflow/eval';
import { load, type Model } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';

const family = (name: string) => path.join(import.meta.dirname, 'fixtures/golden/family', name);

let backend: Backend;
let model: Model;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
  model = await load({ tokenizer: family('llamagen/vq'), ar: family('llamagen/gpt_c2i') }, { backend });
});
afterAll(async () => {
  await model.dispose();
  await backend.close();
});

test('a rule of guidance draws what it draws in generate(), and its figures go by its name', async () => {
  const { tokenizer, tokenModel } = model;
  if (!tokenModel) throw new Error('no AR model');
  const common = { model: tokenModel, tokenizer, count: 2, classes: 10, cfg: 4, seed: 6 };
  const at = (interval: number) => ({
    ...common,
    guidance: { name: `interval ${interval}`, rule: model.intervalGuidance(interval) },
  });
  const [constant, early, late] = [generatedSource(common), generatedSource(at(3)), generatedSource(at(20))];
  expect(new Set([constant.name, early.name, late.name]).size).toBe(3);
  const found = await early.read(0, 2);
  for await (const step of model.generate({
    ...{ labels: [0, 1], seed: 6, cfg: 4, guidance: model.intervalGuidance(3) },
  })) {
    if (step.count < step.total) continue;
    const pixels = await model.decode(await step.tokens());
    expect([...bytesOf(pixels).data]).toEqual([...found.data]);
  }
  // The rule took place: with guidance to the end the pictures are others.
  expect([...(await constant.read(0, 2)).data]).not.toEqual([...found.data]);
});
