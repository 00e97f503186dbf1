import { createReferenceBackend } from '@detailflow/core/reference';
import { imageValues, shapesDataset } from '@detailflow/data';
import { createResolutionMap, resolutionSettings } from '@detailflow/tokenizer';
import { expect, test } from 'vitest';
import { patchGan } from './losses/discriminator';
import { TokenizerTrainer } from './tokenizer-trainer';
import { drawVariant } from './tokenizer-variant';
import { parseTrainingConfig } from './training-config';

// A batch whose parts have draws of their own, as the processes of the official training have.

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
const parsed = (tokenizer: object) =>
  parseTrainingConfig({
    preset: 'tiny-32',
    tokenizer: {
      model: {
        ...{ imageSize: 8, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 },
        ...{ encoder: tower, decoder: tower },
      },
      ...{ steps: 40, batch: 4, microBatch: 1, warmup: 0, degradation: 0.6, correction: 0.6 },
      ...tokenizer,
    },
    tokenModel: { model: { dim: 8, heads: 2 } },
  }).tokenizer;

async function images(first: number, count: number): Promise<Float32Array> {
  const shapes = shapesDataset({ images: first + count, size: 8 });
  const values = new Float32Array(count * 192);
  for (let i = 0; i < count; i++)
    imageValues(await shapes.image(first + i), 8, values.subarray(i * 192, (i + 1) * 192));
  return values;
}

const create = (tokenizer: object, replicas = 1) => {
  const { model: config, recipe, discriminator } = parsed(tokenizer);
  return TokenizerTrainer.create({
    ...{ config, recipe, backends: Array.from({ length: replicas }, createReferenceBackend), seed: 3 },
    ...(recipe.adversarial &&
      discriminator.kind === undefined && { networks: { discriminator: patchGan(discriminator) } }),
  });
};

type Trainer = Awaited<ReturnType<typeof create>>;
const moments = async (trainer: Trainer) =>
  new Map(
    Object.entries((await trainer.snapshot()).tensors)
      .filter(([name]) => name.startsWith('moment1.'))
      .map(([name, { data }]) => [name, data as Float32Array]),
  );

test('each part of a batch has its own tokens and noise, and they vary', async () => {
  const trainer = await create({ draws: 4 });
  const seen = new Set<string>();
  const batch = await images(0, 4);
  for (let step = 0; step < 6; step++) {
    const { variants = [], variant } = await trainer.train(batch);
    expect(variants).toHaveLength(4);
    expect(variants[0]).toEqual(variant);
    for (const one of variants) seen.add(JSON.stringify(one));
  }
  expect(seen.size).toBeGreaterThan(8);
});

test('the gradient is the mean of those of the parts, each learned alone', async () => {
  // Without noise a gradient depends on nothing but images and variant.
  const recipe = { correction: 0, degradation: 1, clip: 1e9 };
  const all = await create({ ...recipe, draws: 2 });
  const map = createResolutionMap(resolutionSettings(all.config));
  const { variants = [] } = await all.train(await images(0, 4));
  expect(variants[0].tokens).not.toBe(variants[1].tokens);
  const alone = [];
  for (const [draw, variant] of variants.entries()) {
    const one = await create({ ...recipe, batch: 2 });
    // Of some step it is the only variant.
    const steps = Array.from({ length: 400 }, (_, step) => step);
    const step = steps.find((at) => {
      const drawn = drawVariant(map, { seed: 3, step: at, degradation: 1, correction: 0 });
      return JSON.stringify(drawn) === JSON.stringify(variant);
    });
    expect(step).toBeDefined();
    const { tensors } = await one.snapshot();
    await one.restore({ step: step as number, tensors });
    expect((await one.train(await images(2 * draw, 2))).variant).toEqual(variant);
    alone.push(await moments(one));
  }
  let largest = 0;
  for (const [name, found] of await moments(all)) {
    const [first, second] = alone.map((one) => one.get(name) as Float32Array);
    for (const [i, value] of found.entries()) {
      expect(value, name).toBeCloseTo((first[i] + second[i]) / 2, 7);
      largest = Math.max(largest, Math.abs(value));
    }
  }
  expect(largest).toBeGreaterThan(1e-3);
});

test('where all draws are the same, the step is that of one draw, to the bit', async () => {
  const recipe = { correction: 0, degradation: 0 };
  const [one, four] = [await create(recipe), await create({ ...recipe, draws: 4 })];
  const batch = await images(0, 4);
  for (let step = 0; step < 3; step++) {
    await one.train(batch);
    await four.train(batch);
  }
  expect((await four.snapshot()).tensors).toEqual((await one.snapshot()).tensors);
});

const adversarial = { start: 1, width: 4, layers: 1, weight: 0.1 };

test.each([
  ['', {}],
  [', against a discriminator', { adversarial }],
])('a resumed run is the run that never stopped, and replicas change nothing%s', async (_, more) => {
  const recipe = { draws: 2, batch: 4, ...more };
  const [whole, halves, replicated] = [await create(recipe), await create(recipe), await create(recipe, 2)];
  const batches = await Promise.all([0, 1, 2, 3].map((i) => images(4 * i, 4)));
  const losses = [];
  for (const [i, batch] of batches.entries()) {
    // The interpreter of the reference keeps more digits than a snapshot has.
    if (i === 2) await whole.restore(await whole.snapshot());
    losses.push((await whole.train(batch)).loss);
  }
  for (const batch of batches.slice(0, 2)) await halves.train(batch);
  const resumed = await create(recipe);
  await resumed.restore(await halves.snapshot());
  for (const batch of batches.slice(2)) await resumed.train(batch);
  expect(await resumed.snapshot()).toEqual(await whole.snapshot());
  for (const [i, batch] of batches.entries())
    expect((await replicated.train(batch)).loss).toBeCloseTo(losses[i], 6);
});

test('many sizes: all draws of a step have the same, and as many images stay of each', async () => {
  const sizes = { imageSize: 8, minSize: 4, maxSize: 8, probability: 1 };
  const trainer = await create({ draws: 2, sizes });
  const found = new Set<unknown>();
  for (let step = 0; step < 4; step++) {
    const { variants = [], images: seen } = await trainer.train(await images(0, 4));
    expect(seen).toBe(4);
    expect(variants[0].image).toEqual(variants[1].image);
    found.add(variants[0].image?.size);
  }
  expect(found.size).toBeGreaterThan(1);
});

test('a batch that cannot be divided so is refused', () => {
  for (const draws of [3, 8]) {
    expect(() => parsed({ draws })).toThrow(
      new RegExp(
        `tokenizer.draws: the batch \\(4\\) must be a multiple of draws \\(${draws}\\) times microBatch \\(1\\)`,
      ),
    );
  }
  expect(parsed({}).recipe.draws).toBeUndefined();
});
