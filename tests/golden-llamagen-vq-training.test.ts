import { parameterAccess, quantise } from '@detailflow/blocks';
import { type Backend, pictureFromPixels, readFloat32, Tensor, trace, type Weight } from '@detailflow/core';
import { createVqTokenizer, vqConfigOf, vqLosses, vqParameters } from '@detailflow/llamagen';
import { CodebookUsage } from '@detailflow/tokenizer';
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
import { runOnce } from './run-once';

const json = goldenJson('family/llamagen/golden.json');
const vq = golden('family/llamagen/golden_vq.safetensors');

describe.each(devices)('training of the VQ tokenizer on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

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
    const results = await runOnce(backend, graph, weights, { images: floatTensor(vq.images) });
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
    const results = await runOnce(backend, graph, weights, {
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
    const known = values['gen.sampled.pixels.row0'];
    if (known) expectClose(drawn.data.subarray(0, known.data.length), floats(known));
    const reference = values['gen.sampled.uint8'].data as Uint8Array;
    for (const i of [0, 1])
      expectBytes(pictureFromPixels(drawn, i).data, reference.subarray(i * 3072, (i + 1) * 3072));
  }
  await backend.close();
});
