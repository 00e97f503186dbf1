import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, conv2d, maximum, mean, mul, weightFromArray } from '@detailflow/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numbers } from '../../../../tests/numbers-by-formula';
import { type Discriminator, patchGan } from './discriminator';
import { batch, tinyTrainer } from './test-trainer';

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

const adversarial = { start: 2, weight: 0.2, adaptive: true, lecam: 0.001, consistency: 4 };

test('a discriminator joins at its step, learns to tell images apart, and is resumed to the bit', async () => {
  const values = await batch();
  const networks = { discriminator: patchGan({ width: 8, layers: 2 }) };
  const eager = {
    adversarial: { ...adversarial, start: 6, weight: 1, consistency: 0, adaptive: false },
    correction: 0.3,
  };
  const one = await tinyTrainer(backend, eager, networks);
  const other = await tinyTrainer(backend, eager, networks);
  const reports = [];
  for (let step = 0; step < 40; step++) {
    if (step === 11) {
      const { tensors } = await one.snapshot();
      await other.restore({ step, tensors });
    }
    const report = await one.train(values);
    reports.push(report);
    if (step >= 11) expect(await other.train(values)).toEqual(report);
  }
  expect(reports[1].adversary).toBeUndefined();
  expect(reports[1].extra).toBeUndefined();
  expect(one.graphs).toBe(4);
  const last = reports.slice(-6);
  const average = (of: (report: (typeof last)[number]) => number | undefined) =>
    last.reduce((total, report) => total + (of(report) as number) / last.length, 0);
  expect(average((r) => r.adversary?.judgedReal)).toBeGreaterThan(
    average((r) => r.adversary?.judgedFake) + 0.01,
  );
  expect(last.every(({ extra }) => Number.isFinite(extra?.adversarial))).toBe(true);
  await one.dispose();
  await other.dispose();
});

test('heads on the features of a network that is given', async () => {
  const specs = [{ name: 'filters', shape: [4, 3, 4, 4] }];
  const filters = numbers('filters', 4 * 3 * 16);
  const discriminator: Discriminator = {
    specs: [{ name: 'head.weight', shape: [1, 4, 1, 1] }],
    fixed: { specs, weights: new Map([['filters', weightFromArray('filters', specs[0].shape, filters)]]) },
    logits: (p, x) => mean(mul(maximum(conv2d(x, p('filters'), { stride: 4 }), 0), p('head.weight')), 1),
  };
  const one = await tinyTrainer(backend, { adversarial: { ...adversarial, start: 0 } }, { discriminator });
  const { adversary, extra } = await one.train(await batch());
  expect(Number.isFinite(adversary?.discriminator)).toBe(true);
  expect(extra?.adversarial).not.toBe(0);
  expect((await one.parameters()).has('filters')).toBe(false);
  await one.dispose();
});
