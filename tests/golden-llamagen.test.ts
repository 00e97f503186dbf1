import { readFileSync } from 'node:fs';
import { createGroupTokenModel, type GroupTokenModel, regionOrder, ropeTables } from '@detailflow/blocks';
import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { type Backend, bytesSource, Tensor, type Weights } from '@detailflow/core';
import {
  createVqTokenizer,
  gptConfigOf,
  gptSettings,
  intervalGuidance,
  type VqTokenizer,
  vqConfigOf,
} from '@detailflow/llamagen';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';

const folder = new URL('./fixtures/golden/family/', import.meta.url);

async function weightsOf(file: string, key?: string): Promise<Weights> {
  const bytes = new Uint8Array(readFileSync(new URL(file, folder)));
  return stateDict(await readTorchCheckpoint(bytesSource(bytes, file)), key);
}

const tensor = ({ shape, data }: GoldenTensor): Tensor<'float32'> =>
  new Tensor('float32', data as Float32Array, shape);

const integers = ({ data }: { readonly data: ArrayLike<unknown> }): number[] => Array.from(data, Number);

const vq = golden('family/llamagen/golden_vq.safetensors');

async function openVq(backend: Backend, order?: Int32Array): Promise<VqTokenizer> {
  const weights = await weightsOf('llamagen/vq/vq_ds4_P.pt', 'model');
  return createVqTokenizer({ config: vqConfigOf(weights, { imageSize: 32 }), weights, backend, order });
}

describe.each(devices)('VQ tokenizer on the %s backend', (device) => {
  let backend: Backend;
  let tokenizer: VqTokenizer;
  beforeAll(async () => {
    backend = await openDevice(device);
    tokenizer = await openVq(backend);
  });
  afterAll(() => backend.close());

  test.each([
    ['images', 'enc.indices'],
    ['images_rect', 'enc.rect.indices'],
  ])('%s -> codes', async (images, codes) => {
    expect(integers(await tokenizer.encode(tensor(vq[images])))).toEqual(integers(vq[codes]));
  });

  test('codes -> pixels', async () => {
    const codes = new Tensor('int32', vq['enc.indices'].data as Int32Array, [2, 64]);
    const pixels = (await tokenizer.decode(codes)).data as Float32Array;
    expectClose(pixels.slice(0, vq['dec.pixels'].data.length), floats(vq['dec.pixels']));
    const small = await tokenizer.decode(codes, { size: 24 });
    const { shape } = vq['dec.resized'];
    expect(small.dims.slice(2)).toEqual(shape.slice(2));
    expectClose(small.data.slice(0, 3 * 24 * 24), floats(vq['dec.resized']));
  });

  test('codes of a picture that is not square -> pixels', async () => {
    const [, , height, width] = vq['dec.rect.pixels'].shape;
    const codes = new Tensor('int32', vq['enc.rect.indices'].data as Int32Array, [
      vq['enc.rect.indices'].shape[0],
      (height / 4) * (width / 4),
    ]);
    const pixels = await tokenizer.decodeGrid(codes, { rows: height / 4, columns: width / 4 });
    expectClose(pixels.data as Float32Array, floats(vq['dec.rect.pixels']));
  });

  test('rows so far: what is there is close to the whole, the rest is grey', async () => {
    const codes = new Tensor('int32', (vq['enc.indices'].data as Int32Array).slice(0, 64), [1, 64]);
    const part = (await tokenizer.decode(codes, { tokens: 27 })).data as Float32Array;
    const size = 32;
    for (let at = 0; at < part.length; at++) {
      const row = Math.floor(at / size) % size;
      if (row >= 12) expect(part[at]).toBe(0);
    }
    expect(part.slice(0, 12 * size).some((value) => value !== 0)).toBe(true);
    await expect(tokenizer.decode(codes, { tokens: 65 })).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

const models = [
  { set: 'c2i', file: 'llamagen/gpt_c2i/c2i_P.pt', config: 'llamagen/gpt_c2i/config.json', json: 'llamagen' },
  { set: 'par_g4', file: 'par/g4/PAR-P-4x.pt', config: 'par/g4/config.json', json: 'par' },
  { set: 'par_g16', file: 'par/g16/PAR-P-16x.pt', config: 'par/g16/config.json', json: 'par' },
];

const drawn = (one: Record<string, number>) => ({
  ...{ cfg: one.cfg_scale, temperature: one.temperature, topK: one.top_k, topP: one.top_p },
});

describe.each(models)('GPT $set', ({ set, file, config, json }) => {
  const values = golden(`family/${json}/golden_${set}.safetensors`);
  const settings = goldenJson(`family/${json}/golden.json`)[set];

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let model: GroupTokenModel;
    beforeAll(async () => {
      backend = await openDevice(device);
      const weights = await weightsOf(file, 'model');
      const known = gptSettings(goldenJson(`family/${config}`));
      model = createGroupTokenModel({ config: gptConfigOf(weights, known, { file }), weights, backend });
    });
    afterAll(() => backend.close());

    test('rotary table and order', () => {
      const { cos, sin } = ropeTables(model.config);
      const table = floats(values.rope);
      const pairs = values.rope.shape[1];
      for (let i = 0; i < model.tokens * pairs; i++) {
        expect(cos[i]).toBeCloseTo(table[2 * i], 5);
        expect(sin[i]).toBeCloseTo(table[2 * i + 1], 5);
      }
      if (set !== 'c2i') {
        const order = [...regionOrder(model.tokens, model.config.groupSize)];
        expect(order).toEqual(integers(values.order));
        const drawn = integers(values['gen.sampled.tokens']);
        const raster = integers(values['gen.sampled.raster']);
        expect(drawn).toEqual(drawn.map((_, i) => raster[i - (i % order.length) + order[i % order.length]]));
      }
    });

    const { sampling } = settings;
    const greedyCfg = set === 'c2i' ? 2 : 1.5;
    const runs: readonly [string, Partial<SampleOptions>, number?][] = [
      ['greedy', { greedy: true, cfg: greedyCfg }],
      ['greedy_nocfg', { greedy: true, cfg: 1 }],
      ['greedy_interval', { greedy: true, cfg: greedyCfg }, sampling.interval],
      ['sampled', drawn(sampling.sampled), sampling.sampled.cfg_interval],
      ...(sampling.plain ? [['plain', drawn(sampling.plain), -1] as [string, object, number]] : []),
    ];
    test.each(runs)('%s tokens', async (run, options, interval = -1) => {
      const guidance = intervalGuidance(model.config, interval);
      const noise = tensor(values.noise);
      const labels = integers(values.gen_labels);
      let last: Tensor<'int32'> | undefined;
      for await (const step of sampleTokens({ model, labels, noise, guidance, ...options })) {
        last = await step.tokens();
      }
      expect(integers(last as Tensor<'int32'>)).toEqual(integers(values[`gen.${run}.tokens`]));
    });
  });
});
