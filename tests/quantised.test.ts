import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend, Tensor } from '@detailflow/core';
import { softmax } from '@detailflow/sampler';
import { convert, load, type Model } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend();
});
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-quantised-'));
afterAll(async () => {
  await backend.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Logits [rows][V] along given sequences, each prediction from the tokens of the sequence itself. */
async function logitsAlong(
  model: Model,
  labels: readonly number[],
  codes: Int32Array,
): Promise<Float32Array[]> {
  const { tokenModel } = model;
  if (!tokenModel) throw new Error('no AR model');
  const { tokens, vocabularySize } = tokenModel;
  const session = await tokenModel.begin(labels);
  const found: Float32Array[] = [];
  let chosen: Int32Array | undefined;
  while (session.position < tokens) {
    const logits = (await session.predict(chosen)).data as Float32Array;
    for (let i = 0; i < logits.length; i += vocabularySize)
      found.push(logits.subarray(i, i + vocabularySize));
    const [from, count] = [session.position, session.nextCount];
    if (from + count === tokens) break;
    chosen = Int32Array.from(
      { length: labels.length * count },
      (_, i) => codes[Math.floor(i / count) * tokens + from + (i % count)],
    );
  }
  await session.dispose();
  return found;
}

/** Share of positions with the same most likely token, and the mean KL divergence in nats. */
function agreement(
  exact: readonly Float32Array[],
  rounded: readonly Float32Array[],
): { top1: number; kl: number } {
  const argmax = (values: Float32Array) => values.indexOf(values.reduce((a, b) => Math.max(a, b)));
  let same = 0;
  let kl = 0;
  for (const [i, logits] of exact.entries()) {
    if (argmax(logits) === argmax(rounded[i])) same++;
    const [p, q] = [softmax(logits), softmax(rounded[i])];
    for (let k = 0; k < p.length; k++) if (p[k] > 0) kl += p[k] * Math.log(p[k] / Math.max(q[k], 1e-300));
  }
  return { top1: same / exact.length, kl: kl / exact.length };
}

const root = path.dirname(import.meta.dirname);

// The golden models have random weights and nearly flat logits: hard cases, not typical ones.
test.each([
  { name: 'tests/fixtures/fashion-ref', dtype: 'q8', top1: 0.985, kl: 0.0003 },
  { name: 'tests/fixtures/fashion-ref', dtype: 'q4', top1: 0.92, kl: 0.01 },
  { name: 'tests/fixtures/fashion-ref', dtype: 'q4', calibrate: true, top1: 0.95, kl: 0.005 },
  { name: 'tests/fixtures/golden/A', dtype: 'q8', top1: 0.84, kl: 0.015 },
  { name: 'tests/fixtures/golden/A', dtype: 'q4', top1: 0.42, kl: 0.45 },
  { name: 'tests/fixtures/golden/B', dtype: 'q8', top1: 0.84, kl: 0.015 },
  { name: 'tests/fixtures/golden/B', dtype: 'q4', top1: 0.42, kl: 0.45 },
] as const)('$name in $dtype keeps to its float32 logits', async ({ name, dtype, top1, kl, ...rest }) => {
  const exact = await load(path.join(root, name), { backend });
  const { calibrate = false } = rest as { calibrate?: boolean };
  const converted = path.join(folder, 'calibrated');
  if (calibrate) await convert(path.join(root, name), converted, { dtype, calibrate });
  const rounded = await load(calibrate ? converted : path.join(root, name), { backend, dtype });
  const { classes = 1 } = exact.tokenModel ?? {};
  const labels = Array.from({ length: 20 }, (_, i) => i % classes);
  let codes: Tensor | undefined;
  for await (const step of exact.generate({ labels, seed: 5, cfg: 1.5 })) codes = await step.tokens();
  const sequence = codes?.data as Int32Array;
  const figures = agreement(
    await logitsAlong(exact, labels, sequence),
    await logitsAlong(rounded, labels, sequence),
  );
  await exact.dispose();
  await rounded.dispose();
  console.log(
    `${name} ${dtype}${calibrate ? ', calibrated' : ''}: top-1 ${(100 * figures.top1).toFixed(1)} %, KL ${figures.kl.toExponential(2)} nats`,
  );
  expect(figures.top1).toBeGreaterThanOrEqual(top1);
  expect(figures.kl).toBeLessThanOrEqual(kl);
});

test.each(['fp32', 'q8', 'q4'] as const)(
  'in %s nothing depends on the company, to the last bit',
  async (dtype) => {
    const model = await load(path.join(root, 'tests/fixtures/fashion-ref'), { backend, dtype });
    const labels = [4, 0, 9, 2, 7];
    const { tokens = 0, vocabularySize = 0 } = model.tokenModel ?? {};
    const codes = Int32Array.from({ length: labels.length * tokens }, (_, i) => (i * 7919) % vocabularySize);
    const together = await logitsAlong(model, labels, codes);
    const alone = await logitsAlong(model, [9], codes.subarray(2 * tokens, 3 * tokens));
    const counts = model.tokenModel?.schedule ?? [];
    let [at, own] = [0, 0];
    for (const count of counts) {
      for (let k = 0; k < count; k++) expect(together[at + 2 * count + k]).toEqual(alone[own + k]);
      at += labels.length * count;
      own += count;
    }
    expect(own).toBe(tokens);
    await model.dispose();
  },
);
