import { createNodeBackend } from '@detailflow/backend-node';
import { Tensor } from '@detailflow/core';
import { createResolutionMap, resolutionSettings } from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';
import { dividingBatch, drawStepImages, keptImages } from './step-size';
import { TokenizerTrainer } from './tokenizer-trainer';
import { parseTrainingConfig } from './training-config';

const tower = { width: 16, heads: 2, layers: 2, mlpWidth: 32, patchSize: 4, positionGrid: 2 };
const configOf = (tokenizer: object) =>
  parseTrainingConfig({
    preset: 'tiny-32',
    tokenizer: {
      model: {
        ...{ imageSize: 24, tokens: 24, groupSize: 2, causalTokens: 2, codebookSize: 32 },
        ...{ encoder: tower, decoder: tower },
      },
      ...{ steps: 40, batch: 4, microBatch: 4, warmup: 0, learningRate: 2e-3 },
      ...tokenizer,
    },
  }).tokenizer;

const images = (side: number) => numbers('images', 12 * side * side).map((x) => Math.tanh(x));

let backend: Awaited<ReturnType<typeof createNodeBackend>>;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

describe('images of many sizes', () => {
  test('sizes come as often as they should, and the same for the same step', () => {
    const { model } = configOf({});
    const map = createResolutionMap(resolutionSettings(model));
    const recipe = {
      ...{
        imageSize: 12,
        minSize: 8,
        maxSize: 24,
        probability: 0.5,
        maxProbability: 0.2,
        adjustBatch: false,
      },
    };
    const sizes = Array.from(
      { length: 4000 },
      (_, step) => drawStepImages(map, recipe, { seed: 7, step }).size,
    );
    const share = (size: number) => sizes.filter((one) => one === size).length / sizes.length;
    // A whole number from 8 to 24 is nearest to 12 for 11 to 14 (10 and 14 to the smaller), to 24 for 23 and 24.
    expect(share(12)).toBeGreaterThan(0.3 + 0.5 * (3 / 17));
    expect(share(24)).toBeGreaterThan(0.2);
    expect(share(24)).toBeLessThan(0.32);
    expect(new Set(sizes)).toEqual(new Set(map.bestResolutions.filter((size) => size >= 8)));
    expect(drawStepImages(map, recipe, { seed: 7, step: 11 }).size).toBe(sizes[11]);
    expect([dividingBatch(153, 64), dividingBatch(128, 64), dividingBatch(7, 4)]).toEqual([51, 64, 1]);
    expect(keptImages(255, 512, { adjustBatch: true })).toBe(127);
  });

  test('training: every size has graphs of its own, few tokens learn for small images, and a run goes on to the bit', async () => {
    const { model, recipe } = configOf({
      sizes: { imageSize: 12, minSize: 8, maxSize: 24, probability: 0.5, maxProbability: 0.2 },
    });
    const create = () => TokenizerTrainer.create({ config: model, recipe, backends: [backend], seed: 3 });
    const trainer = await create();
    expect(trainer.imageSize).toBe(24);
    const batch = images(24);
    const losses: number[] = [];
    const sizes = new Set<number>();
    for (let step = 0; step < 12; step++) {
      const { loss, variant, images: seen } = await trainer.train(batch);
      expect(seen).toBe(4);
      expect(variant.size).toBeLessThanOrEqual(variant.image?.size ?? 24);
      sizes.add(variant.image?.size ?? 24);
      losses.push(loss);
    }
    expect(sizes.size).toBeGreaterThan(2);
    expect(losses.every(Number.isFinite)).toBe(true);
    const { step, tensors } = await trainer.snapshot();
    const copy = Object.fromEntries(
      Object.entries(tensors).map(([name, { type, data, dims }]) => [
        name,
        new Tensor(type as 'float32', data.slice() as Float32Array, dims),
      ]),
    );
    const other = await create();
    await other.restore({ step, tensors: copy });
    for (let i = 0; i < 3; i++)
      expect((await other.train(batch)).loss).toBe((await trainer.train(batch)).loss);
    await expect(trainer.train(images(12))).rejects.toMatchObject({ code: 'shape' });
    await other.dispose();
    await trainer.dispose();
  });

  test('REPA: the decoder learns to tell what a network sees, together with images of many sizes', async () => {
    const { model, recipe } = configOf({
      ...{ repa: { weight: 1, layer: 0, width: 16 }, degradation: 0.5, correction: 0.5 },
      sizes: { imageSize: 16, minSize: 8, maxSize: 16, probability: 0.5 },
    });
    // What the network sees of a patch: its mean colours.
    const repa = {
      ...{ width: 3, patchSize: 4 },
      async features({ data, dims }: Tensor) {
        const [count, , side] = dims;
        const across = side / 4;
        const out = new Float32Array(count * across ** 2 * 3);
        for (let at = 0; at < data.length; at++) {
          const [image, channel] = [Math.floor(at / (3 * side * side)), Math.floor(at / (side * side)) % 3];
          const [row, column] = [Math.floor(at / side) % side, at % side];
          const patch = Math.floor(row / 4) * across + Math.floor(column / 4);
          out[(image * across ** 2 + patch) * 3 + channel] += (data[at] as number) / 16;
        }
        return new Tensor('float32', out, [count, across ** 2, 3]);
      },
    };
    const trainer = await TokenizerTrainer.create({
      config: model,
      recipe,
      backends: [backend],
      seed: 1,
      networks: { repa },
    });
    const told: number[] = [];
    for (let step = 0; step < 40; step++)
      told.push((await trainer.train(images(16))).extra?.repa ?? Number.NaN);
    const mean = (some: number[]) => some.reduce((a, b) => a + b, 0) / some.length;
    expect(Math.max(...told)).toBeLessThanOrEqual(1);
    expect(mean(told.slice(-8))).toBeLessThan(mean(told.slice(0, 8)) - 0.1);
    await trainer.dispose();
    const other = { ...repa, patchSize: 8 };
    await expect(
      TokenizerTrainer.create({
        config: model,
        recipe,
        backends: [backend],
        seed: 1,
        networks: { repa: other },
      }),
    ).rejects.toThrow(/patches of 8 pixels, the decoder of 4/);
  });
});
