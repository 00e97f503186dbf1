import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createTokenModel } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, readFloat32, Tensor, type Weight, weightFromArray } from '@detailflow/core';
import { sampleTokens, softmax } from '@detailflow/sampler';
import { convert, load, type Model, openModel } from 'detailflow';
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
  { name: 'packages/model-fashion-32/model', dtype: 'q8', top1: 0.98, kl: 0.0006 },
  { name: 'packages/model-emoji-64/model', dtype: 'q8', top1: 0.98, kl: 0.0003 },
  { name: 'tests/fixtures/fashion-ref', dtype: 'q8', calibrate: true, top1: 0.985, kl: 0.0002 },
  { name: 'packages/model-emoji-64/model', dtype: 'q8', calibrate: true, top1: 0.98, kl: 0.0002 },
  { name: 'tests/fixtures/fashion-ref', dtype: 'q4', top1: 0.92, kl: 0.01 },
  { name: 'tests/fixtures/fashion-ref', dtype: 'q4', calibrate: true, top1: 0.95, kl: 0.005 },
  { name: 'packages/model-fashion-32/model', dtype: 'q4', top1: 0.885, kl: 0.025 },
  { name: 'packages/model-fashion-32/model', dtype: 'q4', calibrate: true, top1: 0.905, kl: 0.016 },
  { name: 'packages/model-emoji-64/model', dtype: 'q4', top1: 0.91, kl: 0.0125 },
  { name: 'packages/model-emoji-64/model', dtype: 'q4', calibrate: true, top1: 0.93, kl: 0.0075 },
  { name: 'tests/fixtures/golden/A', dtype: 'q8', top1: 0.84, kl: 0.015 },
  { name: 'tests/fixtures/golden/A', dtype: 'q4', top1: 0.42, kl: 0.45 },
  { name: 'tests/fixtures/golden/B', dtype: 'q8', top1: 0.84, kl: 0.015 },
  { name: 'tests/fixtures/golden/B', dtype: 'q4', top1: 0.42, kl: 0.45 },
] as const)('$name in $dtype keeps to its float32 logits', async ({ name, dtype, top1, kl, ...rest }) => {
  const exact = await load(path.join(root, name), { backend });
  const { calibrate = false } = rest as { calibrate?: boolean };
  const converted = path.join(folder, `${name}-${dtype}`.replace(/\W/g, '-'));
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

// The golden models' pixels go to 8 and beyond, so their noise is measured against what they draw.
test.each(['fashion-ref', 'golden/A', 'golden/B'])(
  'the decoder of %s in q8 draws the same pictures',
  async (name) => {
    const folder = path.join(root, 'tests/fixtures', name);
    const exact = await load(folder, { backend });
    const rounded = await load(folder, { backend, dtype: 'q8' });
    const { tokens, codebookSize } = exact.tokenizer;
    const codes = new Tensor(
      'int32',
      Int32Array.from({ length: 4 * tokens }, (_, i) => (i * 7919) % codebookSize),
      [4, tokens],
    );
    const [wanted, found] = await Promise.all(
      [exact, rounded].map(({ tokenizer }) => tokenizer.decode(codes)),
    );
    const range = wanted.data.reduce((a, b) => Math.max(a, b)) - wanted.data.reduce((a, b) => Math.min(a, b));
    const error = wanted.data.reduce((sum, x, i) => sum + (x - found.data[i]) ** 2, 0) / wanted.data.length;
    const psnr = 10 * Math.log10(range ** 2 / error);
    console.log(`${name}: decoder in q8 ${psnr.toFixed(1)} dB`);
    expect(psnr).toBeGreaterThan(45);
    const images = new Tensor(
      'float32',
      wanted.data.map((x) => Math.max(-1, Math.min(1, x))),
      wanted.dims,
    );
    expect((await rounded.tokenizer.encode(images)).data).toEqual(
      (await exact.tokenizer.encode(images)).data,
    );
    await exact.dispose();
    await rounded.dispose();
  },
);

test.each([Number.NaN, Number.POSITIVE_INFINITY, 1e38])(
  'an embedding of %s is told in q8 as in fp32',
  async (value) => {
    const opened = await openModel(path.join(root, 'tests/fixtures/fashion-ref'));
    const { weights, config } = opened.ar as NonNullable<typeof opened.ar>;
    const damaged = new Map(weights);
    const name = 'cls_embedding.embedding_table.weight';
    const { shape } = damaged.get(name) as Weight;
    const rows = (await readFloat32(damaged.get(name) as Weight)).slice();
    rows[3 * shape[1] + 7] = value;
    damaged.set(name, weightFromArray(name, shape, rows));
    for (const dtype of ['fp32', 'q8'] as const) {
      const tokenModel = createTokenModel({ config, weights: damaged, backend, dtype });
      const draw = async () => {
        for await (const _ of sampleTokens({ model: tokenModel, labels: [3], seed: 1, cfg: 1 }));
      };
      if (value === 1e38) await draw();
      else await expect(draw()).rejects.toThrow(/finite|number/);
      await tokenModel.dispose();
    }
    await opened.close();
  },
);

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
