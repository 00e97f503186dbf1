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
    expect(recipe.perceptual).toEqual({ weight: 1, warmup: 10000 });
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
  expect(tokenizer.recipe.perceptual).toEqual({ weight: 1, warmup: 10000 });
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
  ] as const) {
    expect(() => parseTrainingConfig({ ...base, tokenizer: section })).toThrow(message);
  }
});
