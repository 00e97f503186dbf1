import { Tensor, type Weight, weightFromArray } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import type { Snapshot } from './checkpoint-file';
import { type EarlierTraining, goingOn } from './earlier-training';

const float = (shape: readonly number[], value = 0) =>
  new Tensor('float32', new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), shape);
const weight = (name: string, shape: readonly number[], value: number): Weight =>
  weightFromArray(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value));

const buffers = (name: string, shape: readonly number[]) => ({
  [`param.${name}`]: float(shape, 1),
  [`moment1.${name}`]: float(shape),
  [`moment2.${name}`]: float(shape),
});
const begun: Snapshot = {
  step: 0,
  tensors: {
    ...buffers('quantize.embedding.weight', [4, 2]),
    ...buffers('quant_conv.weight', [2, 2]),
    'param.frozen': float([3], 1),
    ...buffers('discriminator.main.0.weight', [1, 1]),
    'ema.quant_conv.weight': float([2, 2], 1),
    'codebook.ring': new Tensor('int32', new Int32Array(5), [5]),
    'codebook.lastUse': new Tensor('int32', new Int32Array(4), [4]),
    'adversary.means': float([2]),
  },
};
const settings = { learningRate: 1e-3, betas: [0.9, 0.95] as const, epsilon: 1e-8, weightDecay: 0 };
const moments = (name: string, shape: readonly number[], value: number, step = 400) =>
  [name, { step, mean: weight(name, shape, value), square: weight(name, shape, 2 * value) }] as const;
const earlier: EarlierTraining = {
  step: 400,
  optimiser: {
    settings,
    moments: new Map([
      moments('quantize.embedding.weight', [4, 2], 3),
      moments('quant_conv.weight', [2, 2], 5),
    ]),
  },
  averages: new Map([['quant_conv.weight', weight('quant_conv.weight', [2, 2], 7)]]),
  recentCodes: weight('quantize.codebook_used', [5], 3),
  discriminator: {
    weights: new Map([['main.0.weight', weight('main.0.weight', [1, 1], 9)]]),
    optimiser: { settings, moments: new Map([moments('main.0.weight', [1, 1], 11)]) },
  },
};

async function went(change: Partial<EarlierTraining> = {}, steps = 1000) {
  const notices: string[] = [];
  const { step, tensors } = await goingOn(
    begun,
    { ...earlier, ...change },
    {
      ...{ file: 'x.pt', section: 'tokenizer', steps, start: 100 },
      optimiser: { betas: [0.9, 0.95], epsilon: 1e-8 },
      onNotice: (message) => notices.push(message),
    },
  );
  const first = Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, data[0]]));
  return { step, first, notices };
}

test('everything of a training goes on, and what it lacks begins anew, with a word', async () => {
  const whole = await went();
  expect(whole).toEqual({
    step: 400,
    notices: [],
    first: {
      ...{ 'param.quantize.embedding.weight': 1, 'param.quant_conv.weight': 1, 'param.frozen': 1 },
      ...{ 'moment1.quantize.embedding.weight': 3, 'moment2.quantize.embedding.weight': 6 },
      ...{ 'moment1.quant_conv.weight': 5, 'moment2.quant_conv.weight': 10, 'ema.quant_conv.weight': 7 },
      ...{ 'param.discriminator.main.0.weight': 9, 'moment1.discriminator.main.0.weight': 11 },
      ...{ 'moment2.discriminator.main.0.weight': 22, 'codebook.ring': 3, 'codebook.lastUse': 400 },
      'adversary.means': 0,
    },
  });
  const own = new Map([
    ['adversary.means', weight('adversary.means', [2], 0.5)],
    ['codebook.lastUse', weight('codebook.lastUse', [4], 390)],
  ]);
  expect((await went({ own })).first).toMatchObject({ 'adversary.means': 0.5, 'codebook.lastUse': 390 });

  const fewer = await went({
    optimiser: {
      settings: { ...settings, epsilon: 1e-6 },
      moments: new Map([moments('quant_conv.weight', [2, 2], 5, 30), moments('elsewhere', [2], 5)]),
    },
    discriminator: undefined,
  });
  expect(fewer.notices).toEqual([
    'x.pt: 1 of 2 parameters had no gradient yet: their moments begin at 0',
    'x.pt: 1 parameters had made other numbers of steps than the training: ours counts those of the training',
    'x.pt: the optimiser goes on with other settings: epsilon was 0.000001 and is 1e-8 now',
    'x.pt: the discriminator is not in the file, so it is drawn anew',
  ]);
  expect(fewer.first).toMatchObject({
    'moment1.quantize.embedding.weight': 0,
    'param.discriminator.main.0.weight': 1,
  });
});

describe('what does not fit is refused, and says what it is', () => {
  const of = (name: string, shape: readonly number[], value: number): Partial<EarlierTraining> => ({
    optimiser: { settings, moments: new Map([moments(name, shape, value)]) },
  });
  test.each<[string, Partial<EarlierTraining>, RegExp]>([
    [
      'another shape',
      of('quant_conv.weight', [2, 3], 1),
      /quant_conv.weight: the mean of its gradients is \[2,3\], must be \[2,2\]/,
    ],
    ['no number', of('quant_conv.weight', [2, 2], Number.NaN), /quant_conv.weight: .* not finite/],
    ['nobody', of('else', [2, 2], 1), /moments of none of the parameters/],
    [
      'a code too high',
      { recentCodes: weight('quantize.codebook_used', [5], 4) },
      /codebook_used: must hold codes 0 to 3/,
    ],
    ['half a code', { recentCodes: weight('quantize.codebook_used', [5], 0.5) }, /must hold codes/],
    [
      'a use in times to come',
      { own: new Map([['codebook.lastUse', weight('codebook.lastUse', [4], 401)]]) },
      /lastUse: has 401, which is no step up to 400/,
    ],
    [
      'a mean of another shape',
      { averages: new Map([['quant_conv.weight', weight('quant_conv.weight', [4], 1)]]) },
      /its running mean is \[4\]/,
    ],
  ])('%s', async (_, change, message) => {
    await expect(went(change)).rejects.toThrow(message);
  });

  test('no steps left', async () => {
    await expect(went({}, 400)).rejects.toMatchObject({ code: 'config', entry: 'tokenizer.steps' });
  });
});
