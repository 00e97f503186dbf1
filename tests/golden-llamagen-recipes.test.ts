import {
  createGroupTokenModel,
  forward,
  groupParameters,
  groupWeights,
  PlaceKind,
  parameterAccess,
  placeMask,
  quantise,
  regionOrder,
} from '@detailflow/blocks';
import {
  type Backend,
  pictureFromPixels,
  readFloat32,
  slice,
  Tensor,
  type Tensors,
  type TextCondition,
  trace,
  type Weight,
} from '@detailflow/core';
import { crossEntropy } from '@detailflow/core/losses';
import {
  createTextTokenModel,
  createVqTokenizer,
  gptConfigOf,
  gptSettings,
  intervalGuidance,
  leftPaddedText,
  type TextTokenModel,
  textEmbedding,
  textForward,
  textGptConfigOf,
  textGptLoss,
  textGptParameters,
  trainedTextParameters,
  vqConfigOf,
  vqLosses,
  vqParameters,
} from '@detailflow/llamagen';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { CodebookUsage } from '@detailflow/tokenizer';
import { placeKinds, sequenceIds, tokenModelStepGraph } from '@detailflow/train';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import {
  expectGradients,
  familyWeights,
  floatTensor,
  integers,
  integerTensor,
  withGradients,
} from './golden-family';

const json = goldenJson('family/llamagen/golden.json');
const t2i = golden('family/llamagen/golden_t2i.safetensors');
const vq = golden('family/llamagen/golden_vq.safetensors');

async function textParts() {
  const weights = await familyWeights('llamagen/gpt_t2i/t2i_P.pt', 'module');
  const settings = gptSettings(goldenJson('family/llamagen/gpt_t2i/config.json'));
  return { weights, config: textGptConfigOf(weights, settings) };
}

/** Row i of features and mask, as a condition. */
function textOf(features: string, mask: string | undefined, i: number): TextCondition {
  const [, places, width] = t2i[features].shape;
  const rows = (t2i[features].data as Float32Array).slice(i * places * width, (i + 1) * places * width);
  const kept = mask && Uint8Array.from(integers(t2i[mask]).slice(i * places, (i + 1) * places));
  return {
    features: new Tensor('float32', rows, [places, width]),
    ...(kept && { mask: new Tensor('bool', kept, [places]) }),
  };
}

const texts = (features: string, mask?: string) => [0, 1, 2].map((i) => textOf(features, mask, i));

async function lastTokens(options: SampleOptions): Promise<number[]> {
  let last: Tensor<'int32'> | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  return integers(last as Tensor<'int32'>);
}

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
      expectClose((await session.predict(chosen)).data, floats(t2i[`logits.prefix${known}.last`]));
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

const classModels = [
  { set: 'c2i', family: 'llamagen', file: 'llamagen/gpt_c2i/c2i_P.pt', key: 'model' },
  { set: 'gqa', family: 'llamagen', file: 'llamagen/gpt_gqa/consolidated.pth', key: undefined },
  { set: 'par_g4', family: 'par', file: 'par/g4/PAR-P-4x.pt', key: 'model' },
  { set: 'par_g16', family: 'par', file: 'par/g16/PAR-P-16x.pt', key: 'model' },
];

describe.each(['reference', 'cpu'] as const)('training on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  async function run(
    graph: ReturnType<typeof trace>,
    weights: Parameters<Backend['compile']>[1],
    feeds: Tensors,
  ) {
    const executable = await backend.compile(graph, weights);
    const results = await executable.run(feeds);
    await executable.dispose();
    return results;
  }

  test.each(classModels)(
    'a step of GPT $set: loss and every gradient',
    async ({ set, family, file, key }) => {
      const values = golden(`family/${family}/golden_${set}.safetensors`);
      const summaries = goldenJson(`family/${family}/golden.json`)[set].train.grads;
      const weights = await familyWeights(file, key);
      const config = gptConfigOf(
        weights,
        gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`)),
      );
      const { tokens, groupSize } = config;
      const [rows] = values.codes.shape;
      const raster = integers(values.codes);
      const order =
        groupSize > 1 ? regionOrder(tokens, groupSize) : Int32Array.from({ length: tokens }, (_, i) => i);
      const codes = Int32Array.from(raster, (_, i) => raster[i - (i % tokens) + order[i % tokens]]);
      if (groupSize > 1) expect([...codes]).toEqual(integers(values.codes_reordered));
      const kinds = placeKinds(config);
      expect(kinds[0]).toBe(PlaceKind.class);
      const names = groupParameters(config).map(({ name }) => name);
      const graph = trace((g) => {
        const p = groupWeights(g, config);
        const logits = forward(p, config, {
          ids: g.input('ids', 'i32', [rows, tokens]),
          kinds: g.constant(kinds, [tokens], 'i32'),
          positions: g.constant(
            kinds.map((_, place) => place),
            [tokens],
            'i32',
          ),
          visible: g.constant(placeMask(tokens, config), [tokens, tokens], 'bool'),
        });
        const loss = crossEntropy(logits, g.input('targets', 'i32', [rows, tokens]));
        return withGradients({ loss, logits }, p, names);
      });
      const ids = sequenceIds(config, { labels: integers(values.labels), rows: codes });
      const results = await run(graph, weights, {
        ids: new Tensor('int32', ids, [rows, tokens]),
        targets: new Tensor('int32', codes, [rows, tokens]),
      });
      expectClose(results.loss.data as Float32Array, floats(values['train.loss']));
      const first = (results.logits.data as Float32Array).subarray(0, tokens * config.vocabularySize);
      expectClose(first, floats(values['train.logits.row0']));
      expect(Object.keys(summaries).sort()).toEqual(expect.arrayContaining(['norm.weight', 'output.weight']));
      expectGradients(results, summaries);
      for (const name of Object.keys(values).filter((one) => one.startsWith('train.grad.'))) {
        expectClose(results[`grad.${name.slice(11)}`].data as Float32Array, floats(values[name]));
      }
    },
  );

  test.each(classModels)(
    "GPT $set in the training's own graph: loss and every gradient",
    async ({ set, family, file, key }) => {
      const values = golden(`family/${family}/golden_${set}.safetensors`);
      const { grads } = goldenJson(`family/${family}/golden.json`)[set].train;
      const weights = await familyWeights(file, key);
      const settings = gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`));
      const config = gptConfigOf(weights, settings);
      const { tokens, groupSize } = config;
      const [rows] = values.codes.shape;
      const codes = Int32Array.from(integers(values[groupSize > 1 ? 'codes_reordered' : 'codes']));
      const executable = await backend.compile(tokenModelStepGraph({ config, microBatch: rows }), new Map());
      const specs = groupParameters(config);
      const buffers = await Promise.all(
        specs.map(async ({ name, shape }) => {
          const known = await readFloat32(weights.get(name) as Weight);
          return [
            [`param.${name}`, new Tensor('float32', known, shape)],
            [`grad.${name}`, new Tensor('float32', new Float32Array(known.length), shape)],
          ] as const;
        }),
      );
      const state = await backend.createState(Object.fromEntries(buffers.flat()));
      const ids = sequenceIds(config, { labels: integers(values.labels), rows: codes });
      const feeds = {
        ids: new Tensor('int32', ids, [rows, tokens]),
        targets: new Tensor('int32', codes, [rows, tokens]),
      };
      const { loss, positionLoss } = await executable.run(feeds, { state });
      expectClose(loss.data as Float32Array, floats(values['train.loss']));
      const mean = (positionLoss.data as Float32Array).reduce((a, b) => a + b, 0) / tokens;
      expect(mean).toBeCloseTo((loss.data as Float32Array)[0], 5);
      const found = await Promise.all(
        specs.map(async ({ name }) => [`grad.${name}`, await state.read(`grad.${name}`)] as const),
      );
      expectGradients(Object.fromEntries(found), grads);
      await state.dispose();
      await executable.dispose();
    },
  );

  test('a step of the text-conditional GPT: loss and every gradient', async () => {
    const { weights, config } = await textParts();
    const rows = 3;
    // A row without picture or text has a plain causal mask; "no text" keeps the mask of its text.
    const mask = integers(t2i.cond_mask).map((kept, i) =>
      integers(t2i['train.valid'])[Math.floor(i / 6)] ? kept : 1,
    );
    const graph = trace((g) => {
      const p = parameterAccess(g, textGptParameters(config));
      const inputs = {
        features: g.input('features', 'f32', [rows, 6, 20]),
        mask: g.input('mask', 'bool', [rows, 6]),
        codes: g.input('codes', 'i32', [rows, 16]),
        valid: g.input('valid', 'f32', [rows]),
      };
      return withGradients(textGptLoss(p, config, inputs), p, trainedTextParameters(config));
    });
    const results = await run(graph, weights, {
      features: floatTensor(t2i['train.cond']),
      mask: new Tensor('bool', Uint8Array.from(mask), [rows, 6]),
      codes: integerTensor(t2i.codes),
      valid: new Tensor('float32', Float32Array.from(integers(t2i['train.valid'])), [rows]),
    });
    expectClose(results.loss.data as Float32Array, floats(t2i['train.loss']));
    expectClose((results.logits.data as Float32Array).subarray(0, 16 * 96), floats(t2i['train.logits.row0']));
    expectGradients(results, json.t2i.train.grads);
    for (const name of Object.keys(t2i).filter((one) => one.startsWith('train.grad.'))) {
      expectClose(results[`grad.${name.slice(11)}`].data as Float32Array, floats(t2i[name]));
    }
  });

  test('the embedded text and the logits of all its places', async () => {
    const { weights, config } = await textParts();
    const graph = trace((g) => {
      const p = parameterAccess(g, textGptParameters(config));
      const features = g.input('features', 'f32', [3, 6, 20]);
      const mask = g.input('mask', 'bool', [3, 6]);
      const codes = g.input('codes', 'i32', [3, 16]);
      const logits = textForward(p, config, { features, mask, codes: slice(codes, 1, 0, 15) });
      return { logits, embedded: textEmbedding(p, features) };
    });
    const results = await run(graph, weights, {
      features: floatTensor(t2i.cond),
      mask: new Tensor('bool', Uint8Array.from(integers(t2i.cond_mask)), [3, 6]),
      codes: integerTensor(t2i.codes),
    });
    expectClose((results.embedded.data as Float32Array).subarray(0, 6 * 32), floats(t2i['cap_proj.row0']));
    expectClose(
      (results.logits.data as Float32Array).subarray(0, 6 * 96),
      floats(t2i['logits.prefill.row0']),
    );
  });

  test('a step of the VQ tokenizer: losses, use of the codebook, every gradient', async () => {
    const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
    const config = vqConfigOf(weights, { imageSize: 32 });
    const names = vqParameters(config).map(({ name }) => name);
    const graph = trace((g) => {
      const p = parameterAccess(g, vqParameters(config));
      const images = g.input('images', 'f32', vq.images.shape);
      const { pixels: _, ...found } = vqLosses(p, config, images, { entropyRatio: 0.1 });
      return withGradients(found, p, names);
    });
    const results = await run(graph, weights, { images: floatTensor(vq.images) });
    const losses = ['reconstruction', 'vq', 'commit', 'entropy', 'loss'].map((name) =>
      Number(results[name].data[0]),
    );
    expectClose(losses, floats(vq['train.losses']));
    const ring = await readFloat32(weights.get('quantize.codebook_used') as Weight);
    const usage = new CodebookUsage(config.codebookSize, ring);
    expect(usage.add(results.codes.data as Int32Array)).toBeCloseTo(json.vq.train.codebook_usage, 6);
    expectGradients(results, json.vq.train.grads);
    for (const name of Object.keys(vq).filter((one) => one.startsWith('train.grad.'))) {
      expectClose(results[`grad.${name.slice(11)}`].data as Float32Array, floats(vq[name]));
    }
  });

  test('codes that are compared as they are', async () => {
    const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
    const [rows, width, height, columns] = vq['enc.h'].shape;
    const count = height * columns;
    const graph = trace((g) => {
      const {
        vq: toCodes,
        codes,
        commit,
        entropy,
      } = quantise(
        g.input('latents', 'f32', [rows, count, width]),
        g.weight('quantize.embedding.weight', [96, 8]),
        { isNormalised: false, entropyRatio: 0.1 },
      );
      return { codes, vq: toCodes, commit, entropy };
    });
    const maps = floats(vq['enc.h']);
    const latents = Float32Array.from(maps, (_, i) => {
      const [row, place, channel] = [
        Math.floor(i / (count * width)),
        Math.floor(i / width) % count,
        i % width,
      ];
      return maps[(row * width + channel) * count + place];
    });
    const results = await run(graph, weights, {
      latents: new Tensor('float32', latents, [rows, count, width]),
    });
    expect(integers(results.codes)).toEqual(integers(vq['nol2.indices']));
    const losses = ['vq', 'commit', 'entropy'].map((name) => Number(results[name].data[0]));
    expectClose(losses, floats(vq['nol2.losses']));
  });
});

test('bytes of decoded pictures', async () => {
  const backend = await openDevice('cpu');
  const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
  const tokenizer = createVqTokenizer({ config: vqConfigOf(weights, { imageSize: 32 }), weights, backend });
  const expectBytes = (data: Uint8ClampedArray, reference: ArrayLike<number>) => {
    const rgb = data.filter((_, i) => i % 4 !== 3);
    expect(rgb.length).toBe(reference.length);
    expect(Math.max(...rgb.map((x, i) => Math.abs(x - reference[i])))).toBeLessThanOrEqual(1);
  };
  const codes = new Tensor('int32', vq['enc.indices'].data as Int32Array, [2, 64]);
  const bytes = vq['dec.uint8'].data as Uint8Array;
  const pixels = await tokenizer.decode(codes);
  for (const i of [0, 1])
    expectBytes(pictureFromPixels(pixels, i).data, bytes.subarray(i * 3072, (i + 1) * 3072));
  expectBytes(
    pictureFromPixels(await tokenizer.decode(codes, { size: 24 })).data,
    vq['dec.resized.uint8'].data as Uint8Array,
  );
  for (const [family, set] of [
    ['llamagen', 'c2i'],
    ['par', 'par_g4'],
    ['par', 'par_g16'],
  ]) {
    const values = golden(`family/${family}/golden_${set}.safetensors`);
    const order = values.order ? Int32Array.from(integers(values.order)) : undefined;
    const config = vqConfigOf(weights, { imageSize: 32 });
    const ordered = createVqTokenizer({ config, weights, backend, order });
    const drawn = await ordered.decode(integerTensor(values['gen.sampled.tokens']));
    const reference = values['gen.sampled.uint8'].data as Uint8Array;
    for (const i of [0, 1])
      expectBytes(pictureFromPixels(drawn, i).data, reference.subarray(i * 3072, (i + 1) * 3072));
  }
  await backend.close();
});
