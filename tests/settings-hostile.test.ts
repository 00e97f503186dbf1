import { readFileSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';
import { mergeSettings, parseTrainingConfig } from '@detailflow/train';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

// Every setting of docs/options.md, and its neighbours, with values that it cannot have: each is refused by name.

/** What a setting takes; the others are refused. */
type Kind =
  | 'flag'
  | 'count'
  | 'countOrNone'
  | 'share'
  | 'factor'
  | 'number'
  | 'word'
  | 'list'
  | 'section'
  | 'size';

const kinds: Readonly<Record<string, Kind>> = {
  ...of('checkpoints', { every: 'count', keep: 'count', milestones: 'number' }),
  ...of('validation', { every: 'count', images: 'count', patience: 'number', generate: 'number' }),
  ...of('data', {
    ...{ fit: 'word', flip: 'flag', zoom: 'share', heldOut: 'share', balance: 'share', views: 'word' },
    ...{
      cropRanges: 'list',
      classNames: 'list',
      augment: 'section',
      background: 'word',
      splitSeed: 'number',
    },
  }),
  ...of('tokenizer', {
    ...{ model: 'section', steps: 'count', batch: 'count', microBatch: 'count', warmup: 'number' },
    ...{ learningRate: 'share', scaleByBatch: 'flag', initialFactor: 'share', finalFactor: 'share' },
    ...{ betas: 'list', epsilon: 'share', clip: 'number', weightDecay: 'share', averageDecay: 'share' },
    ...{ frozen: 'list', finetuneDecoder: 'flag', degradation: 'share', correction: 'share' },
    draws: 'count',
    ...{ pixelLoss: 'word', pixelWeight: 'factor', vqRatio: 'factor', commitBeta: 'factor' },
    ...{ entropyRatio: 'factor', revival: 'section', sizes: 'section', pretrained: 'section' },
    ...{ perceptual: 'section', adversarial: 'section', alignment: 'section', repa: 'section' },
  }),
  ...of('tokenizer.model', {
    ...{ imageSize: 'count', tokens: 'count', groupSize: 'count', causalTokens: 'countOrNone' },
    ...{ codebookSize: 'count', codebookDim: 'count', causalEncoder: 'flag', causalDecoder: 'flag' },
    ...{ correction: 'flag', resolutionPower: 'number', normalisedCodebook: 'flag', mixture: 'section' },
    ...{ encoder: 'section', decoder: 'section' },
  }),
  ...of('tokenizer.model.encoder', {
    ...{ width: 'count', heads: 'count', layers: 'count', mlpWidth: 'count', patchSize: 'count' },
    positionGrid: 'count',
  }),
  ...of('tokenizer.perceptual', {
    ...{ network: 'word', weight: 'factor', warmup: 'number', dropout: 'flag', features: 'word' },
  }),
  ...of('tokenizer.adversarial', {
    ...{ start: 'number', weight: 'factor', adaptive: 'flag', lecam: 'factor', consistency: 'factor' },
    ...{
      discriminator: 'word',
      width: 'count',
      layers: 'count',
      norm: 'word',
      augment: 'flag',
      loss: 'word',
      generatorLoss: 'word',
    },
  }),
  ...of('tokenizer.alignment', { weight: 'factor' }),
  ...of('tokenizer.repa', { weight: 'factor', layer: 'number', width: 'count' }),
  ...of('tokenizer.pretrained', { encoder: 'flag', decoder: 'flag' }),
  ...of('tokenizer.revival', { every: 'count', until: 'share', patience: 'count' }),
  ...of('tokenizer.sizes', {
    ...{ imageSize: 'size', minSize: 'count', maxSize: 'size', probability: 'share' },
    ...{ maxProbability: 'share', adjustBatch: 'flag' },
  }),
  ...of('tokenModel', {
    ...{ model: 'section', steps: 'count', batch: 'count', microBatch: 'count', warmup: 'number' },
    ...{ learningRate: 'share', scaleByBatch: 'flag', initialFactor: 'share', finalFactor: 'share' },
    ...{ betas: 'list', epsilon: 'share', clip: 'number', weightDecay: 'share', averageDecay: 'share' },
    ...{ frozen: 'list', labelDropout: 'share', correction: 'share', dropout: 'share' },
    ...{ tokenDropout: 'share', dropPath: 'share', imageSize: 'size' },
  }),
  ...of('tokenModel.model', {
    ...{ dim: 'count', layers: 'count', heads: 'count', kvHeads: 'count', hiddenDim: 'count' },
    ...{ ropeBase: 'number', normEpsilon: 'number' },
  }),
  ...of('classifier', {
    ...{ widths: 'list', features: 'count', steps: 'count', batch: 'count', microBatch: 'count' },
    ...{ learningRate: 'share', warmup: 'number', weightDecay: 'share', dropout: 'share' },
  }),
};

function of(section: string, settings: Record<string, Kind>): Record<string, Kind> {
  return Object.fromEntries(Object.entries(settings).map(([name, kind]) => [`${section}.${name}`, kind]));
}

const numbers: readonly unknown[] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1];
/** Values that nothing takes but one kind, which leaves them out. */
const foreign: Readonly<Record<string, unknown>> = {
  ...{ 'an empty text': '', 'a text': 'nonsense', 'a number as text': '1', 'an empty list': [] },
  ...{ 'a list for a scalar': [1], 'a list of lists': [[0.5]], 'an object': { nonsense: 1 }, true: true },
};
const wrong: Readonly<Record<Kind, readonly unknown[]>> = {
  flag: [...numbers, 0, 1, ...others('true')],
  count: [...numbers, 0, 1.5, 2 ** 40, ...others()],
  countOrNone: [...numbers, 1.5, 2 ** 40, ...others()],
  size: [...numbers, 0, 1.5, 13, 2 ** 40, ...others()],
  share: [...numbers, 1.5, 1e300, ...others()],
  factor: [...numbers, 1e300, ...others()],
  number: [...numbers, 1e300, ...others()],
  word: [...numbers, 0, ...others()],
  list: [...numbers, 0, {}, [1, Number.NaN], [[]], [{}], ...others('an empty list', 'a list for a scalar')],
  section: [...numbers, 0, ...others()],
};

function others(...without: string[]): unknown[] {
  return Object.entries(foreign)
    .filter(([name]) => !without.includes(name))
    .map(([, value]) => value);
}

const nested = (setting: string, value: unknown): Record<string, unknown> =>
  setting.split('.').reduceRight<unknown>((below, key) => ({ [key]: below }), value) as Record<
    string,
    unknown
  >;

/** What is said of a value of a setting; undefined where it is taken. */
function refusal(setting: string, value: unknown): DetailFlowError | undefined {
  try {
    parseTrainingConfig(mergeSettings({ preset: 'tiny-32' }, nested(setting, value)));
    return undefined;
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    return error;
  }
}

/** Bounds of their own: any number above 0 of these is one. */
const unbounded = new Set(['tokenModel.model.ropeBase', 'tokenModel.model.normEpsilon']);

test.each(Object.entries(kinds))('%s refuses what is no %s', (setting, kind) => {
  for (const value of wrong[kind]) {
    if (unbounded.has(setting) && value === 1e300) continue;
    const found = refusal(setting, value);
    const what = `${setting} = ${typeof value === 'number' ? value : JSON.stringify(value)}`;
    expect(found, what).toBeDefined();
    expect(found?.code, what).toMatch(/^(config|invalid-argument)$/);
    // Of an object the unknown name inside it may be what is refused.
    const section = setting.split('.').slice(0, -1).join('.');
    expect(`${found?.entry} ${found?.message}`, what).toContain(
      found?.message.includes('together') || /must be multiples|is not a multiple/.test(found?.message ?? '')
        ? section.split('.')[0]
        : setting,
    );
  }
});

test('settings that contradict one another', () => {
  for (const [settings, message] of [
    [{ tokenizer: { sizes: { probability: 0.7, maxProbability: 0.7 } } }, /more than 1 together/],
    [{ tokenizer: { sizes: { minSize: 32, maxSize: 24 } } }, /minSize \(32\) <= maxSize \(24\)/],
    [{ tokenizer: { batch: 10, microBatch: 4 } }, /must be a multiple of microBatch/],
    [{ tokenModel: { dropPath: 0.1, dropout: 0.1 } }, /takes the place of dropout/],
    [{ tokenizer: { model: { mixture: { temperature: 1 }, correction: true } } }, /cannot be corrected/],
    [
      {
        tokenizer: {
          model: { mixture: { temperature: 1 }, correction: false, normalisedCodebook: false },
        },
      },
      /mixtures are of unit vectors/,
    ],
    [{ tokenizer: { steps: 5, warmup: 6 } }, /tokenizer\.warmup: is 6/],
    [{ validation: { generate: 1 } }, /one picture has no distance/],
    [
      { tokenizer: { adversarial: { discriminator: 'dino', width: 8 } } },
      /adversarial\.width: is a setting of patchgan, stylegan, maskbit; .* is dino/,
    ],
    [
      { tokenizer: { adversarial: { discriminator: 'stylegan', layers: 2 } } },
      /layers: .* of patchgan, maskbit; .* is stylegan/,
    ],
    [
      { tokenizer: { adversarial: { discriminator: 'stylegan', norm: 'batch' } } },
      /norm: is a setting of patchgan, maskbit/,
    ],
    [
      { tokenizer: { adversarial: { discriminator: 'maskbit', norm: 'batch' } } },
      /norm: is "batch"; must be one of group, none/,
    ],
    [{ tokenizer: { adversarial: { layers: 13 } } }, /layers: is 13; must be a whole number from 1 to 12/],
    [{ tokenizer: { adversarial: { norm: 'group' } } }, /norm: is "group"; must be one of image, batch/],
    [
      { tokenizer: { perceptual: { features: 'last' } } },
      /features: is a setting of the networks vit and siglip; .* is vgg/,
    ],
    [
      { tokenizer: { perceptual: { network: 'siglip', features: 'class' } } },
      /features: is "class"; must be one of layers, last/,
    ],
  ] as const) {
    const all = mergeSettings({ preset: 'tiny-32' }, settings);
    expect(() => parseTrainingConfig(all), JSON.stringify(settings)).toThrow(message);
  }
});

test('every setting that docs/options.md names is tried', () => {
  const page = readFileSync(inRepository('docs/options.md'), 'utf8');
  const named = page.matchAll(/`((?:tokenizer|tokenModel|data|validation|checkpoints|classifier)\.[\w.]+)`/g);
  const all = [...new Set([...named].map(([, setting]) => setting))];
  expect(all.length).toBeGreaterThan(60);
  expect(all.filter((setting) => !Object.hasOwn(kinds, setting))).toEqual([]);
});
