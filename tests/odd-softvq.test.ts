import { parameterAccess } from '@detailflow/blocks';
import type { FamilyModel } from '@detailflow/checkpoint';
import { type Backend, Tensor, trace, validateWeights, type Weight } from '@detailflow/core';
import {
  CodeTokenizer,
  ignoredSoftVqWeights,
  latentTraining,
  parseSoftVqConfig,
  type SoftVqTokenizer,
  softVqConfigOf,
  softVqParameters,
  softvqFamily,
} from '@detailflow/softvq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, goldenJson } from './golden';
import { createPlainOnnxBackend } from './plain-onnx';
import { numbersOf, oddTokenizers, releasedFiles, treeOf } from './softvq-models';

describe.each(Object.keys(oddTokenizers))('%s', (name) => {
  const one = oddTokenizers[name];
  let model: FamilyModel;
  beforeAll(async () => {
    const tree = treeOf(name, await releasedFiles(one));
    expect(await softvqFamily.recognise({ model: tree })).toBe(true);
    model = await softvqFamily.open({ model: tree });
    expect(parseSoftVqConfig(model.tokenizer.config).kind).toBe(one.kind);
  });
  afterAll(() => model.close());

  describe.each([...devices, 'plain ONNX'] as const)('on the %s backend', (device) => {
    let backend: Backend;
    beforeAll(async () => {
      backend = device === 'plain ONNX' ? createPlainOnnxBackend() : await openDevice(device);
    });
    afterAll(() => backend.close());

    const side = one.args.image_size as number;
    const images = new Tensor('float32', numbersOf(name, [2, 3, side, side]), [2, 3, side, side]);
    const shape = [2, one.args.num_latent_tokens as number, one.args.codebook_embed_dim as number];

    test('images -> latents, latents -> pixels', async () => {
      const tokenizer = model.createLatentTokenizer?.({ backend }) as SoftVqTokenizer;
      const latents = await tokenizer.encodeLatents(images);
      expect(latents.dims).toEqual(shape);
      expectClose(latents.data as Float32Array, one.latents);
      const drawn = new Tensor('float32', numbersOf('latents', shape), shape);
      const pixels = await tokenizer.decodeLatents(drawn, { standardised: true });
      expectClose(pixels.data as Float32Array, one.pixels);
      if (one.sample) {
        const noise = new Tensor('float32', numbersOf('noise', shape), shape);
        const sample = await tokenizer.encodeLatents(images, { noise });
        expectClose(sample.data as Float32Array, one.sample);
      }
      if (one.codes) {
        expect(tokenizer).toBeInstanceOf(CodeTokenizer);
        const codes = await (tokenizer as CodeTokenizer).encode(images);
        expect(Array.from(codes.data as Int32Array)).toEqual(one.codes);
      }
      await tokenizer.dispose();
    });

    if (device === 'cpu') {
      test.each(['q8', 'q4'] as const)(
        'a decoder in 8 bits with %s draws nearly the same, and latents stay',
        async (dtype) => {
          const [plain, rounded] = [{}, { dtype }].map(
            (options) => model.createLatentTokenizer?.({ backend, ...options }) as SoftVqTokenizer,
          );
          const drawn = new Tensor('float32', numbersOf('latents', shape), shape);
          const [wanted, found] = await Promise.all(
            [plain, rounded].map((tokenizer) => tokenizer.decodeLatents(drawn, { standardised: true })),
          );
          expect(found.data).not.toEqual(wanted.data);
          expect(psnr(wanted.data, found.data)).toBeGreaterThan(45);
          expect((await rounded.encodeLatents(images)).data).toEqual(
            (await plain.encodeLatents(images)).data,
          );
          await Promise.all([plain, rounded].map((tokenizer) => tokenizer.dispose()));
        },
      );
    }

    if (one.entropy === undefined) return;
    test('entropy loss', async () => {
      const config = parseSoftVqConfig(model.tokenizer.config);
      const graph = trace((g) => {
        const p = parameterAccess(g, softVqParameters(config));
        const x = g.input('images', 'f32', images.dims);
        return { entropy: latentTraining(p, config, x, { entropyRatio: one.entropyRatio }).losses[2] };
      });
      const executable = await backend.compile(graph, model.tokenizer.weights);
      const { entropy } = await executable.run({ images });
      expect((entropy.data as Float32Array)[0]).toBeCloseTo(one.entropy as number, 6);
      await executable.dispose();
    });
  });
});

test('every weight of the released softvq-b-32 is known, and the heads follow from the name', () => {
  const [shapes] = Object.values<Record<string, number[]>>(goldenJson('family/softvq/official_keys.json'));
  const weights = new Map(
    Object.entries(shapes).map(([name, shape]): [string, Weight] => [
      name,
      { name, dtype: 'f32', shape, read: () => Promise.reject(new Error('nothing is read')) },
    ]),
  );
  const named = 'vit_base_patch14_dinov2.lvd142m';
  const args = { encoder_model: named, decoder_model: named, tau: 0.07 };
  const config = softVqConfigOf(weights, args);
  expect(config).toMatchObject({ kind: 'soft', imageSize: 256, tokens: 32, latentDim: 64, codebooks: 4 });
  expect(config.encoder).toMatchObject({ width: 768, heads: 12, layers: 12, patchSize: 16, hiddenDim: 3072 });
  validateWeights(weights, softVqParameters(config), { ignore: ignoredSoftVqWeights });
  const other = { ...args, decoder_model: 'vit_large_patch14_dinov2.lvd142m' };
  expect(() => softVqConfigOf(weights, other, { file: 'x.safetensors' })).toThrow(/width is 768.*says 1024/);
});

/** Of what is drawn from its least to its largest value, in dB. */
function psnr(wanted: Float32Array, found: Float32Array): number {
  const range = wanted.reduce((a, b) => Math.max(a, b)) - wanted.reduce((a, b) => Math.min(a, b));
  const error = wanted.reduce((sum, x, i) => sum + (x - found[i]) ** 2, 0) / wanted.length;
  return 10 * Math.log10(range ** 2 / error);
}
