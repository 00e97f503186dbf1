import { createReferenceBackend } from '@detailflow/core/reference';
import { imageValues, shapesDataset } from '@detailflow/data';
import { expect, test } from 'vitest';
import type { TokenizerStepReport } from './tokenizer-recipe';
import { TokenizerTrainer } from './tokenizer-trainer';
import { parseTrainingConfig } from './training-config';

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
const { tokenizer } = parseTrainingConfig({
  preset: 'tiny-32',
  tokenizer: {
    model: {
      ...{ imageSize: 8, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: 40, batch: 4, microBatch: 2, warmup: 2, degradation: 0.6, correction: 0.6 },
    revival: { every: 4, until: 0.5, patience: 4 },
  },
  tokenModel: { model: { dim: 8, heads: 2 } },
});

async function batch(): Promise<Float32Array> {
  const shapes = shapesDataset({ images: 4, size: 8 });
  const values = new Float32Array(4 * 3 * 64);
  for (let i = 0; i < 4; i++) imageValues(await shapes.image(i), 8, values.subarray(i * 192, (i + 1) * 192));
  return values;
}

const create = (replicas: number) =>
  TokenizerTrainer.create({
    config: tokenizer.model,
    recipe: tokenizer.recipe,
    backends: Array.from({ length: replicas }, createReferenceBackend),
    seed: 3,
  });

test('two graphs serve all prefix lengths, sizes and noise indices; the loss falls; dead codes come back', async () => {
  const trainer = await create(1);
  const images = await batch();
  const variants = new Set<string>();
  const reports: TokenizerStepReport[] = [];
  for (let step = 0; step < 40; step++) {
    const report = await trainer.train(images);
    const { tokens, size, noiseIndex } = report.variant;
    variants.add(`${tokens} ${size} ${noiseIndex}`);
    reports.push(report);
  }
  expect(variants.size).toBeGreaterThan(8);
  expect(trainer.graphs).toBe(2);
  const mean = (from: number) => reports.slice(from, from + 8).reduce((sum, { loss }) => sum + loss / 8, 0);
  expect(mean(32)).toBeLessThan(0.8 * mean(0));
  const revived = reports.map((report) => report.revived);
  expect(revived.slice(0, 20).reduce((a, b) => a + b)).toBeGreaterThan(0);
  expect(revived.filter((_, step) => (step + 1) % 4 !== 0 || step >= 20).every((count) => count === 0)).toBe(
    true,
  );
});

test('replicas share the work and give the same result', async () => {
  const images = await batch();
  const [one, two] = [await create(1), await create(2)];
  for (let step = 0; step < 3; step++) {
    const [a, b] = [await one.train(images), await two.train(images)];
    expect(b.loss).toBeCloseTo(a.loss, 10);
    expect(b.norm).toBeCloseTo(a.norm, 5);
  }
  const [a, b] = [await one.parameters(), await two.parameters()];
  for (const [name, values] of a) {
    for (const [i, value] of values.entries()) expect(b.get(name)?.[i], name).toBeCloseTo(value, 6);
  }
});

test('images of another size, and a checkpoint of another model', async () => {
  const trainer = await create(1);
  await expect(trainer.train(new Float32Array(100))).rejects.toMatchObject({ code: 'shape' });
  const { step, tensors } = await trainer.snapshot();
  const { 'param.quant_conv.weight': _, ...rest } = tensors;
  await expect(trainer.restore({ step, tensors: rest })).rejects.toThrow(/quant_conv\.weight/);
});
