import { readFileSync } from 'node:fs';
import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { type Backend, bytesSource, Tensor, type Weights } from '@detailflow/core';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import {
  createScaleTokenizer,
  createScaleTokenModel,
  parseScales,
  renamedVarWeights,
  type ScaleTokenizer,
  type ScaleTokenModel,
  scaleTokenizerConfigOf,
  scaleTransformerConfigOf,
} from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';

const folder = new URL('./fixtures/golden/family/', import.meta.url);

async function checkpointOf(file: string) {
  const bytes = new Uint8Array(readFileSync(new URL(file, folder)));
  return readTorchCheckpoint(bytesSource(bytes, file));
}

const tensor = ({ shape, data }: GoldenTensor): Tensor<'float32'> =>
  new Tensor('float32', data as Float32Array, shape);

const codesOf = ({ shape, data }: GoldenTensor): Tensor<'int32'> =>
  new Tensor('int32', data as Int32Array, shape);

const integers = ({ data }: { readonly data: ArrayLike<unknown> }): number[] => Array.from(data, Number);

interface Opened {
  readonly tokenizer: ScaleTokenizer;
  readonly model: ScaleTokenModel;
}

async function openVar(backend: Backend): Promise<Opened> {
  const settings = goldenJson('family/var/config.json');
  const scales = parseScales(settings.patch_nums);
  const vae = renamedVarWeights(stateDict(await checkpointOf('var/vae_ch32v80z8.pth')));
  const config = scaleTokenizerConfigOf(vae, 'residual', { scales });
  const weights = stateDict(await checkpointOf('var/var_d2.pth'));
  return {
    tokenizer: createScaleTokenizer({ config, weights: vae, backend }),
    model: createScaleTokenModel({
      config: scaleTransformerConfigOf(weights, scales),
      ...{ weights, backend, tokenizer: { config, weights: vae } },
    }),
  };
}

async function openFlexVar(backend: Backend, list: readonly number[], rest = {}): Promise<Opened> {
  const scales = parseScales(list);
  const vae = stateDict(await checkpointOf('flexvar/FlexVAE.pth'), 'model');
  const config = scaleTokenizerConfigOf(vae, 'plain', { scales });
  const { root, file } = await checkpointOf('flexvar/FlexVARd3-epo7.pth');
  const trainer = (root as Map<string, Map<string, never>>).get('trainer');
  const weights: Weights = stateDict({ root: trainer?.get('var_wo_ddp') as never, file });
  return {
    tokenizer: createScaleTokenizer({ config, weights: vae, backend }),
    model: createScaleTokenModel({
      config: scaleTransformerConfigOf(weights, scales),
      ...{ weights, backend, tokenizer: { config, weights: vae }, ...rest },
    }),
  };
}

async function lastTokens(options: SampleOptions): Promise<Tensor<'int32'>> {
  let last: Tensor<'int32'> | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  return last as Tensor<'int32'>;
}

describe.each(devices)('VAR on the %s backend', (device) => {
  const vae = golden('family/var/golden_vae.safetensors');
  const values = golden('family/var/golden_var.safetensors');
  const json = goldenJson('family/var/golden.json');
  let backend: Backend;
  let tokenizer: ScaleTokenizer;
  let model: ScaleTokenModel;
  beforeAll(async () => {
    backend = await openDevice(device);
    ({ tokenizer, model } = await openVar(backend));
  });
  afterAll(() => backend.close());

  test('images -> codes of all scales', async () => {
    const [, , height, width] = vae.images.shape;
    const images = new Tensor('float32', floats(vae.images).slice(0, 2 * 3 * height * width), [
      2,
      3,
      height,
      width,
    ]);
    expect(integers(await tokenizer.encode(images))).toEqual(integers(vae['enc.codes']));
  });

  test('codes -> the picture after every scale', async () => {
    const codes = codesOf(vae['enc.codes']);
    let tokens = 0;
    for (const [k, count] of model.schedule.entries()) {
      tokens += count;
      const expected = floats(vae[`rec.s${k}`]);
      const pixels = (await tokenizer.decode(codes, { tokens })).data as Float32Array;
      expectClose(pixels.slice(0, expected.length), expected);
    }
  });

  const labels = integers(values['gen.labels']);
  const noise = tensor(values['gen.noise']);
  const { config } = json;
  const runs: readonly [string, Partial<SampleOptions>][] = [
    ['greedy', { cfg: config.greedy_cfg, topK: 1, topP: 1 }],
    [
      'sampled',
      {
        cfg: config.sampled?.cfg ?? config.cfg,
        topK: config.sampled?.top_k ?? config.top_k,
        topP: config.sampled?.top_p ?? config.top_p,
      },
    ],
    ['plain', { cfg: config.plain_cfg, topK: 0, topP: 1 }],
  ];
  test.each(runs)('%s: tokens and picture', async (run, options) => {
    const codes = await lastTokens({ model, labels, noise, ...options });
    expect(integers(codes)).toEqual(integers(values[`gen.${run}.tokens`]));
    const expected = floats(values[`gen.${run}.image`]);
    const pixels = (await tokenizer.decode(codes)).data as Float32Array;
    expectClose(
      pixels.slice(0, expected.length).map((x) => (x + 1) / 2),
      expected,
    );
  });
});

describe.each(devices)('FlexVAR on the %s backend', (device) => {
  const vae = golden('family/flexvar/golden_vae.safetensors');
  const values = golden('family/flexvar/golden_var.safetensors');
  const json = goldenJson('family/flexvar/golden.json');
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test('images -> codes of all scales -> the picture of each', async () => {
    const { tokenizer, model } = await openFlexVar(
      backend,
      goldenJson('family/flexvar/config.json').patch_nums,
    );
    const [, , height, width] = vae.images.shape;
    const images = new Tensor('float32', floats(vae.images).slice(0, 2 * 3 * height * width), [
      2,
      3,
      height,
      width,
    ]);
    const codes = await tokenizer.encode(images);
    expect(integers(codes)).toEqual(integers(vae['enc.codes']));
    let tokens = model.schedule[0];
    for (const [k, count] of model.schedule.entries()) {
      if (k === 0) continue;
      tokens += count;
      const expected = floats(vae[`rec.s${k}`]);
      const pixels = (await tokenizer.decode(codes, { tokens })).data as Float32Array;
      expectClose(pixels.slice(0, expected.length), expected);
    }
  });

  const runs: [string, Record<string, never>][] = Object.entries(json.config.runs);
  test.each(runs)('%s: tokens', async (run, one: Record<string, number & number[] & boolean>) => {
    const { tokenizer, model } = await openFlexVar(backend, one.pn, {
      ...(one.max_pn ? { largestDrawn: one.max_pn as number } : {}),
      invalidCodes: one.invalid_ids ?? [],
    });
    const all = integers(values['gen.labels']);
    const found = values[`gen.${run}.noise`];
    const labels = all.slice(0, values[`gen.${run}.tokens`].shape[0]);
    const codes = await lastTokens({
      ...{ model, labels, cfg: one.cfg, topK: one.top_k, topP: one.top_p || 1 },
      ...(found && { noise: tensor(found) }),
      guidance: one.used_llamagen_cfg ? 'constant' : 'growing',
    });
    expect(integers(codes)).toEqual(integers(values[`gen.${run}.tokens`]));
    const picture = values[`gen.${run}.image`];
    if (picture.shape[2] === (await tokenizer.decode(codes)).dims[2]) {
      const pixels = (await tokenizer.decode(codes)).data as Float32Array;
      expectClose(pixels.slice(0, picture.data.length), floats(picture));
    }
  });
});
