import { tokenModelParameters } from '@detailflow/ar-model';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { expect, test } from 'vitest';
import { trainingPresets } from './presets';
import { parseTrainingConfig } from './training-config';

const count = (specs: readonly { shape: readonly number[] }[]) =>
  specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

test('every preset is a configuration, and is what its name says', () => {
  const configs = Object.keys(trainingPresets).map((preset) => parseTrainingConfig({ preset }));
  expect(configs.map(({ name }) => name)).toEqual(Object.keys(trainingPresets));
  for (const { name, tokenizer, tokenModel } of configs.filter(({ name }) => name.startsWith('detailflow'))) {
    const { model, recipe } = tokenizer;
    // 23, 39 and 71 steps of the sampler.
    const { tokens, causalTokens, groupSize } = model;
    expect(causalTokens + (tokens - causalTokens) / groupSize).toBe(
      { 'detailflow-16': 23, 'detailflow-32': 39, 'detailflow-64': 71 }[name],
    );
    expect(recipe.perceptual).toEqual({ network: 'vgg', weight: 1, warmup: 10000 });
    expect(recipe.adversarial).toMatchObject({ start: 40000, weight: 0.2 });
    expect(recipe.averageDecay).toBeUndefined();
    // GPT-L: 326M of the layers, and tables of 8192 codes.
    const parameters = count(tokenModelParameters({ ...tokenModel.model, classes: 1000 }));
    expect(parameters / 1e6).toBeGreaterThan(320);
    expect(parameters / 1e6).toBeLessThan(330);
    expect(count(tokenizerParameters(model)) / 1e6).toBeGreaterThan(260);
  }
});

test('settings of losses: defaults of the recipe, bounds, unknown names', () => {
  const base = { preset: 'tiny-32' };
  const { tokenizer } = parseTrainingConfig({
    ...base,
    tokenizer: { perceptual: {}, adversarial: { width: 32 }, alignment: {} },
  });
  expect(tokenizer.recipe.perceptual).toEqual({ network: 'vgg', weight: 1, warmup: 10000 });
  expect(tokenizer.recipe.adversarial).toEqual({
    ...{ start: 40000, weight: 0.2, adaptive: false, lecam: 0.001, consistency: 4 },
  });
  expect(tokenizer.discriminator).toEqual({ width: 32, layers: 3 });
  expect(tokenizer.recipe.alignment).toEqual({ weight: 1 });
  for (const [section, message] of [
    [{ perceptual: { weight: -1 } }, 'tokenizer.perceptual.weight'],
    [{ adversarial: { wieght: 1 } }, 'tokenizer.adversarial.wieght'],
    [{ adversarial: { start: 1.5 } }, 'tokenizer.adversarial.start'],
    [{ alignment: 3 }, 'tokenizer.alignment'],
    [{ perceptual: { network: 'resnet' } }, 'tokenizer.perceptual.network'],
    [{ steps: 1.5 }, 'tokenizer.steps'],
    [{ batch: 30, microBatch: 8 }, 'tokenizer.batch'],
    [{ betas: [1, 2] }, 'tokenizer.betas'],
    [{ model: { tokens: 63 } }, 'tokenizer.model'],
    [{ model: { encoder: { heads: 0 } } }, 'tokenizer.model.encoder.heads'],
  ] as const) {
    expect(() => parseTrainingConfig({ ...base, tokenizer: section })).toThrow(message);
  }
});

test('settings of the data: defaults, and errors that name them', () => {
  const { data } = parseTrainingConfig({ preset: 'small-64' });
  expect(data).toMatchObject({ background: [255, 255, 255], heldOut: 0.05, balance: 0 });
  expect(data).not.toHaveProperty('groupBy');
  expect(parseTrainingConfig({ preset: 'tiny-32' }).data.background).toEqual([0, 0, 0]);
  const set = { background: '#102030', groupBy: '__', balance: 0.5, views: 'varied', augment: { hue: 10 } };
  expect(parseTrainingConfig({ preset: 'small-64', data: set }).data).toMatchObject({
    ...{ ...set, background: [16, 32, 48] },
    augment: { hue: 10, shift: 0 },
  });
  for (const [change, entry] of [
    [{ background: 'red' }, 'data.background'],
    [{ background: 3 }, 'data.background'],
    [{ groupBy: '' }, 'data.groupBy'],
    [{ balance: 2 }, 'data.balance'],
    [{ views: 'all' }, 'data.views'],
    [{ augment: { twist: 1 } }, 'data.augment.twist'],
    [{ augment: { rotate: 90 } }, 'data.augment.rotate'],
    [{ augment: 1 }, 'data.augment'],
  ] as const) {
    expect(() => parseTrainingConfig({ preset: 'small-64', data: change }, 'mine.yaml')).toThrow(
      `mine.yaml: ${entry}`,
    );
  }
});

test('settings of the classifier and of the AR model: errors name the section', () => {
  expect(parseTrainingConfig({ preset: 'small-64' }).classifier).toMatchObject({
    ...{ widths: [16, 32, 64], features: 128 },
    recipe: { steps: 2000, batch: 64, microBatch: 64 },
  });
  for (const [change, entry] of [
    [{ classifier: { widths: [1, 2] } }, 'classifier.widths'],
    [{ classifier: { batch: 10, microBatch: 4 } }, 'classifier.batch'],
    [{ classifier: { dropout: 1 } }, 'classifier.dropout'],
    [{ tokenModel: { warmup: 0.5 } }, 'tokenModel.warmup'],
    [{ tokenModel: { batch: 7, microBatch: 2 } }, 'tokenModel.batch'],
    [{ tokenModel: { model: { dim: 100, heads: 7 } } }, 'tokenModel.model'],
  ] as const) {
    expect(() => parseTrainingConfig({ preset: 'small-64', ...change }, 'mine.yaml')).toThrow(
      `mine.yaml: ${entry}`,
    );
  }
});

test('settings of the further options: defaults, bounds, and what contradicts', () => {
  const base = { preset: 'tiny-32' };
  const { tokenizer, tokenModel, data } = parseTrainingConfig({
    ...base,
    data: { views: 'ten-crop', cropRanges: [1.1, 1.05] },
    tokenizer: {
      ...{
        repa: {},
        sizes: { probability: 0.5, minSize: 16 },
        learningRate: 1e-4,
        scaleByBatch: true,
        batch: 64,
      },
      ...{ frozen: ['quantize'], pixelWeight: 2, finetuneDecoder: true, pretrained: { encoder: true } },
      ...{ perceptual: { dropout: true }, adversarial: { norm: 'batch', loss: 'vanilla', augment: false } },
    },
    tokenModel: { dropPath: 0.2, tokenDropout: 0.1, frozen: ['tok_embeddings'], imageSize: 16 },
  });
  const { recipe } = tokenizer;
  expect(recipe.repa).toEqual({ weight: 0.5, layer: 1, width: 1024 });
  expect(recipe.sizes).toEqual({
    ...{ imageSize: 32, minSize: 16, maxSize: 32, probability: 0.5, maxProbability: 0, adjustBatch: false },
  });
  expect(recipe.learningRate).toBeCloseTo((1e-4 * 64) / 256, 12);
  expect(recipe).toMatchObject({ pixelWeight: 2, finetuneDecoder: true, frozen: ['quantize'] });
  expect(recipe.pretrained).toEqual({ encoder: true, decoder: false });
  expect(recipe.adversarial).toMatchObject({ loss: 'vanilla', augment: false });
  expect(tokenizer.discriminator).toEqual({ width: 64, layers: 3, norm: 'batch' });
  expect(tokenModel.recipe).toMatchObject({ dropPath: 0.2, dropout: 0, tokenDropout: 0.1 });
  expect(tokenModel.model.tokens).toBeLessThan(64);
  expect(data.cropRanges).toEqual([1.1, 1.05]);
  for (const [over, message] of [
    [{ tokenizer: { model: { tokenss: 8 } } }, 'tokenizer.model.tokenss'],
    [{ tokenizer: { model: { encoder: { widht: 8 } } } }, 'tokenizer.model.encoder.widht'],
    [
      { tokenizer: { sizes: { imageSize: 30 } } },
      /tokenizer\.sizes.*30 pixels; the nearest sizes are 28 and 32/,
    ],
    [{ tokenizer: { sizes: { probability: 0.7, maxProbability: 0.6 } } }, /more than 1 together/],
    [{ tokenizer: { sizes: { maxSize: 64 } } }, /tokenizer\.sizes.*maxSize \(64\)/],
    [{ tokenModel: { dropPath: 0.1, dropout: 0.1 } }, 'tokenModel.dropPath'],
    [{ tokenModel: { imageSize: 31 } }, 'tokenModel.imageSize'],
    [{ data: { views: 'ten-crop', cropRanges: [3] } }, /data\.cropRanges: must be a list/],
    [
      { data: { cropRanges: [1.1, 1.05] } },
      /data\.cropRanges: is a setting of the views ten-crop; .* are center/,
    ],
    [{ data: { views: 'mirror' } }, 'data.views'],
    [{ tokenizer: { repa: { layer: -1 } } }, 'tokenizer.repa.layer'],
    [{ validation: { patience: -1 } }, 'validation.patience'],
  ] as const) {
    expect(() => parseTrainingConfig({ ...base, ...over })).toThrow(message);
  }
});

test('each discriminator, and what a perceptual loss compares', () => {
  const of = (adversarial: object | undefined, perceptual?: object) => {
    const { tokenizer } = parseTrainingConfig({
      ...{ preset: 'tiny-32' },
      tokenizer: { ...(adversarial && { adversarial }), ...(perceptual && { perceptual }) },
    });
    return { discriminator: tokenizer.discriminator, perceptual: tokenizer.recipe.perceptual };
  };
  const plain = { width: 64, layers: 3 };
  expect(of(undefined).discriminator).toEqual(plain); // runs that were begun before there were others go on
  expect(of({ discriminator: 'patchgan' }).discriminator).toEqual(plain);
  expect(of({ discriminator: 'dino' }).discriminator).toEqual({ kind: 'dino' });
  expect(of({ discriminator: 'stylegan', width: 8 }).discriminator).toEqual({ kind: 'stylegan', width: 8 });
  const maskbit = { kind: 'maskbit', width: 64, layers: 2 };
  expect(of({ discriminator: 'maskbit', layers: 2 }).discriminator).toEqual(maskbit);
  expect(of({ discriminator: 'maskbit', layers: 2, norm: 'none' }).discriminator).toEqual({
    ...{ ...maskbit, norm: 'none' },
  });
  expect(of(undefined, { network: 'vit', features: 'class' }).perceptual).toEqual({
    ...{ network: 'vit', features: 'class', weight: 1, warmup: 10_000 },
  });
  expect(of(undefined, { network: 'siglip' }).perceptual).not.toHaveProperty('features');
});
