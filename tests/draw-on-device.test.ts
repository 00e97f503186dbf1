import { createTokenModel, type GroupTokenModel } from '@detailflow/ar-model';
import { type Backend, Tensor } from '@detailflow/core';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { goldenTokenModel } from './models';

/** The tokens in the end, of which every step must have shown the first ones. */
async function tokensOf(options: SampleOptions): Promise<number[]> {
  const shown: number[][] = [];
  for await (const step of sampleTokens(options)) shown.push([...((await step.tokens()).data as Int32Array)]);
  const found = shown[shown.length - 1];
  const rows = options.labels.length;
  const width = found.length / rows;
  for (const tokens of shown) {
    const count = tokens.length / rows;
    expect(tokens).toEqual(found.filter((_, i) => i % width < count));
  }
  return found;
}

describe.each([
  ['A', {}],
  ['B', {}],
  ['A', { causalTokens: 0 }],
] as const)('tokens of model %s %j that the device chooses', (set, change) => {
  const { weights, ...made } = goldenTokenModel(set);
  const config = { ...made.config, ...change };

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let model: GroupTokenModel;
    beforeAll(async () => {
      backend = await openDevice(device);
      model = createTokenModel({ config, weights, backend });
    });
    afterAll(() => backend.close());

    const labels = [0, 3, 1];
    test.each<[string, Partial<SampleOptions>]>([
      ['greedy, guided', { greedy: true, cfg: 2 }],
      ['greedy, alone', { greedy: true, cfg: 1 }],
      ['drawn, guided', { cfg: 1.7, seed: 11 }],
      [
        'drawn, guided ever less, cooler, of the largest',
        { cfg: 3, guidance: 'gradual', temperature: 0.8, topK: 5, seed: 4 },
      ],
      ['drawn, alone, the first tokens', { cfg: 1, seed: [9, 2, 5], tokens: config.causalTokens + 1 }],
    ])('%s: those that are chosen here', async (_name, options) => {
      const shared = { model, labels, ...options };
      const here = await tokensOf({ ...shared, onDevice: false });
      expect(await tokensOf({ ...shared, onDevice: true })).toEqual(here);
      expect(new Set(here).size).toBeGreaterThan(3);
    });

    test('continue from a prefix that ends inside a group', async () => {
      const all = await tokensOf({ model, labels, seed: 3, onDevice: false });
      const count = config.causalTokens + Math.ceil(config.groupSize / 2);
      const prefix = new Int32Array(labels.length * count);
      for (let i = 0; i < labels.length; i++) {
        prefix.set(all.slice(i * config.tokens, i * config.tokens + count), i * count);
      }
      const given = new Tensor('int32', prefix, [labels.length, count]);
      expect(await tokensOf({ model, labels, seed: 3, prefix: given, onDevice: true })).toEqual(all);
    });

    test('can be asked after the loop was left, and hold nothing then', async () => {
      let kept: { count: number; tokens(): Promise<{ dims: readonly number[] }> } | undefined;
      for await (const step of sampleTokens({ model, labels, seed: 1, onDevice: true })) {
        kept = step;
        if (step.count >= config.causalTokens) break;
      }
      expect((await kept?.tokens())?.dims).toEqual([labels.length, kept?.count]);
    });
  });
});
