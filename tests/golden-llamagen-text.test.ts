import { createGroupTokenModel } from '@detailflow/blocks';
import { type Backend, Tensor, type TextCondition } from '@detailflow/core';
import {
  createTextTokenModel,
  gptConfigOf,
  gptSettings,
  intervalGuidance,
  leftPaddedText,
  type TextTokenModel,
  textGptConfigOf,
} from '@detailflow/llamagen';
import type { SampleOptions } from '@detailflow/sampler';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { familyWeights, floatTensor, integers } from './golden-family';
import { lastTokens, textOf, textParts, texts } from './golden-text-gpt';

const json = goldenJson('family/llamagen/golden.json');
const t2i = golden('family/llamagen/golden_t2i.safetensors');

test('left padding', () => {
  for (const i of [0, 1, 2]) {
    const { features, mask } = leftPaddedText(textOf('t5_embs', 't5_mask', i), { places: 6 });
    const known = textOf('cond', 'cond_mask', i);
    expectClose(features.data, known.features.data, 0);
    expect([...(mask as Tensor).data]).toEqual([...(known.mask as Tensor).data]);
  }
  const text = textOf('t5_embs', 't5_mask', 0); // two valid rows
  expect(leftPaddedText(text, { places: 2 }).features.dims).toEqual([2, 20]);
  expect(() => leftPaddedText(text, { places: 1 })).toThrow(/2 valid rows/);
  const none = { ...text, mask: new Tensor('bool', new Uint8Array(6), [6]) };
  expect(() => leftPaddedText(none, { places: 6 })).toThrow(/0 valid rows/);
});

describe.each(devices)('text-conditional GPT on the %s backend', (device) => {
  let backend: Backend;
  let model: TextTokenModel;
  beforeAll(async () => {
    backend = await openDevice(device);
    model = createTextTokenModel({ ...(await textParts()), backend });
  });
  afterAll(() => backend.close());

  const padded = texts('cond', 'cond_mask');
  const { sampled, interval } = json.t2i.sampling;
  const runs: readonly [string, Partial<SampleOptions>, TextCondition[]][] = [
    ['greedy', { greedy: true, cfg: 3 }, padded],
    ['greedy_nocfg', { greedy: true, cfg: 1 }, padded],
    [
      'greedy_interval',
      { greedy: true, cfg: 3, guidance: intervalGuidance({ causalTokens: 16 }, interval) },
      padded,
    ],
    [
      'sampled',
      { cfg: sampled.cfg_scale, temperature: sampled.temperature, topK: sampled.top_k, topP: sampled.top_p },
      padded,
    ],
    ['greedy_rightpad', { greedy: true, cfg: 3 }, texts('t5_embs', 't5_mask')],
    ['greedy_nomask', { greedy: true, cfg: 3 }, texts('cond')],
  ];
  test.each(runs)('%s tokens', async (run, options, labels) => {
    const noise = floatTensor(t2i.noise);
    const tokens = await lastTokens({ model, labels, noise, ...options });
    expect(tokens).toEqual(integers(t2i[`gen.${run}.tokens`]));
  });

  test.each(device === 'webgpu' ? [0, 1] : (json.t2i.sampling.prefixes as number[]))(
    'logits after %i known codes',
    async (known) => {
      const session = await model.begin(padded);
      const codes = integers(t2i.codes);
      let chosen: Int32Array | undefined;
      for (let k = 0; k < known; k++) {
        await session.predict(chosen);
        chosen = Int32Array.from([0, 1, 2], (row) => codes[row * 16 + k]);
      }
      const { data } = await session.predict(chosen);
      expectClose(data, floats(t2i[`logits.prefix${known}.last`]));
      const best = [0, 1, 2].map((row) => {
        const logits = data.subarray(row * 96, (row + 1) * 96);
        return logits.indexOf(Math.max(...logits));
      });
      expect(best).toEqual(integers(t2i[`logits.prefix${known}.argmax`]));
      await session.dispose();
    },
  );

  test.skipIf(device === 'webgpu')('the same text gives the same tokens in any batch', async () => {
    const all = await lastTokens({ model, labels: padded, seed: [5, 6, 7], cfg: 3, topK: 40 });
    const one = await lastTokens({ model, labels: [padded[2]], seed: 7, cfg: 3, topK: 40 });
    expect(one).toEqual(all.slice(32));
  });
});

describe('what a model can be asked for', () => {
  let backend: Backend;
  let model: TextTokenModel;
  beforeAll(async () => {
    backend = await openDevice('cpu');
    model = createTextTokenModel({ ...(await textParts()), backend });
  });
  afterAll(() => backend.close());
  const [text] = texts('cond', 'cond_mask');
  const broken = new Tensor('float32', new Float32Array(120).fill(Number.NaN), [6, 20]);

  test.each<[string, unknown, RegExp]>([
    ['a class', 3, /draws for texts/],
    ['nothing', undefined, /draws for texts/],
    ['features missing', {}, /features of a text/],
    [
      'features of another size',
      { features: new Tensor('float32', new Float32Array(40), [2, 20]) },
      /leftPaddedText/,
    ],
    ['a mask of another size', { ...text, mask: new Tensor('bool', new Uint8Array(5), [5]) }, /bool \[6\]/],
    ['features that are not finite', { features: broken }, /NaN/],
  ])('of a text model: %s', async (_name, condition, message) => {
    const labels = [condition as TextCondition];
    await expect(lastTokens({ model, labels, cfg: 1 })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(lastTokens({ model, labels, cfg: 3 })).rejects.toThrow(message);
  });

  test('of a class model: a text', async () => {
    const weights = await familyWeights('llamagen/gpt_c2i/c2i_P.pt', 'model');
    const settings = gptSettings(goldenJson('family/llamagen/gpt_c2i/config.json'));
    const classes = createGroupTokenModel({ weights, backend, config: gptConfigOf(weights, settings) });
    await expect(lastTokens({ model: classes, labels: [text] })).rejects.toThrow(
      /a text; give class numbers/,
    );
    expect(() => textGptConfigOf(weights, settings)).toThrow(/no text-conditional/);
    const { weights: other } = await textParts();
    expect(() => gptConfigOf(other, settings)).toThrow(/textGptConfigOf/);
  });

  test('the grid is told by the name of a released file, and by nothing else', async () => {
    const { weights } = await textParts();
    const file = (name: string) => textGptConfigOf(weights, { heads: 2 }, { file: name }).tokens;
    expect(file('models/t2i_XL_stage1_256.pt')).toBe(256);
    expect(file('t2i_XL_stage2_512.pt')).toBe(1024);
    expect(() => file('mine.pt')).toThrow(/imageSize/);
  });
});
