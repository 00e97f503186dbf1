import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, Tensor, type TokenModel } from '@detailflow/core';
import { shapesDataset } from '@detailflow/data';
import {
  bytesOf,
  evaluateGeneration,
  firstPictureSeeds,
  type GeneratedOptions,
  generatedSource,
  type ImageSource,
  imageTensor,
  psnr,
  reconstructionSource,
  ssim,
  tokenizerFigures,
  tokenWorth,
  worthTarget,
} from '@detailflow/eval';
import { load, type Model } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';

let backend: Backend & { close?(): Promise<void> };
let model: Model;
beforeAll(async () => {
  backend = await createNodeBackend();
  model = await load(inRepository('tests/fixtures/fashion-ref'), { backend });
});
afterAll(async () => {
  await model.dispose();
  await backend.close?.();
});

describe('drawn pictures', () => {
  const source = (options: Partial<GeneratedOptions>): ImageSource =>
    generatedSource({
      ...{ model: model.tokenModel as TokenModel, tokenizer: model.tokenizer, classes: 10, count: 20 },
      ...options,
    });
  const pictures = async (from: ImageSource): Promise<string[]> => {
    const { data, count } = await from.read(0, from.labels.length);
    const size = data.length / count;
    return Array.from({ length: count }, (_, i) => data.subarray(i * size, (i + 1) * size).join());
  };

  test.each(['balanced', 'random'] as const)(
    'of different seeds are different pictures: %s',
    async (labels) => {
      const drawn: string[] = [];
      for (const seed of firstPictureSeeds([0, 10, 20], 20))
        drawn.push(...(await pictures(source({ seed, labels }))));
      expect(new Set(drawn).size).toBe(60);
    },
  );

  test('of random classes depend on their seed alone: not on how many there are, nor on those beside them', async () => {
    const many = source({ seed: 7_000_000, labels: 'random', count: 50 });
    const few = source({ seed: 7_000_000, labels: 'random', count: 12 });
    expect([...few.labels]).toEqual([...many.labels.subarray(0, 12)]);
    const three = await many.read(5, 3);
    const alone = source({ seed: 7_000_006, labels: 'random', count: 1 });
    expect(alone.labels[0]).toBe(many.labels[6]);
    const { data } = await alone.read(0, 1);
    expect(data).toEqual(three.data.subarray(data.length, 2 * data.length));
  });

  test('random classes: every one as likely; other classes with another seed', () => {
    const count = 20_000;
    const { labels } = source({ labels: 'random', count });
    const times = new Array(10).fill(0);
    for (const label of labels) times[label]++;
    const square = times.reduce((sum, n) => sum + (n - count / 10) ** 2 / (count / 10), 0);
    expect(square).toBeLessThan(27.9); // chi squared of 9 degrees, p = 0.001
    const other = source({ seed: 1_000_000, labels: 'random', count }).labels;
    const same = labels.reduce((sum, label, i) => sum + Number(label === other[i]), 0) / count;
    expect(Math.abs(same - 0.1)).toBeLessThan(0.01);
  });

  test('seeds or scales given twice are refused before anything is drawn', async () => {
    const options = {
      ...{
        model: model.tokenModel as TokenModel,
        tokenizer: model.tokenizer,
        classes: 10,
        count: 4,
        backend,
      },
      extractor: undefined as never, // never reached
      real: undefined as never,
    };
    await expect(evaluateGeneration({ ...options, scales: [1], seeds: [3, 3] })).rejects.toThrow(
      /seed 3.*twice/,
    );
    await expect(evaluateGeneration({ ...options, scales: [1, 2, 1] })).rejects.toThrow(
      /scale 1 is given twice/,
    );
  });
});

test('the figures of a tokenizer are those of the bytes that it restores', async () => {
  const { tokenizer } = model;
  const size = tokenizer.resolution(tokenizer.tokens);
  const dataset = shapesDataset({ images: 5, size });
  const view = { size, fit: 'crop' } as const;
  const restorations = [
    { tokens: 8, noiseIndex: null },
    { tokens: tokenizer.tokens, noiseIndex: null },
    { tokens: tokenizer.tokens, noiseIndex: 8 },
  ];
  const figures = await tokenizerFigures({ tokenizer, dataset, view, restorations });
  const real = await imageTensor(dataset, view, 0, 5);
  const planes = (data: Uint8Array, image: number, side: number) =>
    Float64Array.from({ length: 3 * side * side }, (_, at) => {
      const [c, place] = [Math.floor(at / side ** 2), at % side ** 2];
      return data[3 * (image * side * side + place) + c] / 127.5 - 1;
    });
  for (const [i, restoration] of restorations.entries()) {
    const source = reconstructionSource(dataset, view, { tokenizer, ...restoration });
    const { data, width: side } = await source.read(0, 5);
    const worth = tokenWorth(tokenizer, restoration.tokens, size);
    expect([side, figures.restorations[i].size]).toEqual([worth.size, worth.size]);
    const target = worthTarget(real, worth).data as Float32Array;
    let [ssims, psnrs] = [0, 0];
    for (let image = 0; image < 5; image++) {
      const original = target.subarray(image * 3 * side * side, (image + 1) * 3 * side * side);
      const pair = [planes(data, image, side), original] as const;
      ssims += ssim(...pair, { channels: 3, height: side, width: side }) / 5;
      psnrs += psnr(...pair) / 5;
    }
    expect(Math.abs((figures.restorations[i].ssim as number) - ssims)).toBeLessThan(1e-6);
    expect(Math.abs(figures.restorations[i].psnr - psnrs)).toBeLessThan(1e-5);
  }
});

test('pixels that are no numbers do not become bytes', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const pixels = new Tensor('float32', new Float32Array(2 * 12).fill(value, 20, 21), [2, 3, 2, 2]);
    expect(() => bytesOf(pixels)).toThrow(/pixel value 8 of row 1/);
  }
});
