import { fileURLToPath } from 'node:url';
import { parameterAccess, vitBlock, vitPatches } from '@detailflow/blocks';
import type { FamilyModel } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import {
  add,
  type Backend,
  type Graph,
  pixelToByte,
  reshape,
  Tensor,
  topK,
  trace,
  type Value,
  type Weights,
  weightFromArray,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { meanSquaredError } from '@detailflow/core/losses';
import {
  type Alignment,
  alignmentConfigOf,
  alignmentFeatures,
  alignmentLoss,
  alignmentParameters,
  CodeTokenizer,
  decodedPatches,
  decoderSequence,
  encodeImages,
  encoderLatents,
  encoderSequence,
  klDivergence,
  latentTraining,
  parseSoftVqConfig,
  postQuantise,
  preQuantise,
  type SoftVqConfig,
  type SoftVqTokenizer,
  softQuantise,
  softVqParameters,
  softvqFamily,
  toPixels,
} from '@detailflow/softvq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import { expectGradient, type GradientSummary } from './gradient-summary';

const folder = fileURLToPath(new URL('./fixtures/golden/family/softvq/', import.meta.url));
const values = golden('family/softvq/golden.safetensors');
const json = goldenJson('family/softvq/golden.json');
const kinds = ['softvq', 'vq', 'kl', 'ae'] as const;
type Name = (typeof kinds)[number];

const tensor = (one: GoldenTensor): Tensor<'float32'> => new Tensor('float32', floats(one), one.shape);
const integers = ({ data }: { readonly data: ArrayLike<unknown> }): number[] => Array.from(data, Number);
const permutationOf = (): Tensor<'int32'> => {
  const { data, shape } = values['repa.permutation'];
  return new Tensor('int32', data as Int32Array, shape);
};
const images = tensor(values.images);
const [batch] = images.dims;

/** The first rows of a result, as many as the reference has. */
function expectRows(found: Tensor, name: string): void {
  const { data, shape } = values[name];
  expect(found.dims.slice(1), name).toEqual(shape.slice(1));
  expectClose((found.data as Float32Array).slice(0, data.length), floats(values[name]));
}

const opened = new Map<Name, FamilyModel>();
beforeAll(async () => {
  for (const name of kinds) {
    const model = await openFolder(`${folder}${name}`);
    expect(await softvqFamily.recognise({ model })).toBe(true);
    opened.set(name, await softvqFamily.open({ model }));
  }
});
afterAll(async () => {
  for (const model of opened.values()) await model.close();
});

const modelOf = (name: Name): FamilyModel => opened.get(name) as FamilyModel;
const configOf = (name: Name): SoftVqConfig => parseSoftVqConfig(modelOf(name).tokenizer.config);

describe.each(devices)('on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  const tokenizerOf = (name: Name): SoftVqTokenizer =>
    modelOf(name).createLatentTokenizer?.({ backend }) as SoftVqTokenizer;

  async function run(graph: Graph, weights: Weights, feeds: Record<string, Tensor>) {
    const executable = await backend.compile(graph, weights);
    try {
      return await executable.run(feeds);
    } finally {
      await executable.dispose();
    }
  }

  test('SoftVQ: inside the encoder and the quantiser', async () => {
    const config = configOf('softvq');
    const graph = trace((g) => {
      const p = parameterAccess(g, softVqParameters(config));
      const patches = vitPatches(p, 'encoder.model.', config.encoder, g.input('images', 'f32', images.dims));
      const before = encoderSequence(p, config, patches);
      const latent = encoderLatents(p, config, before);
      const h = preQuantise(p, latent);
      const { shares } = softQuantise(p, config, h);
      const after = vitBlock(p, 'encoder.model.', config.encoder, before, 0);
      return { patches, before, after, latent, h, shares, indices: topK(shares, 1) };
    });
    const found = await run(graph, modelOf('softvq').tokenizer.weights, { images });
    expectRows(found.patches, 'enc.patches.row0');
    expectRows(found.before, 'enc.first_block_in.row0');
    expectRows(found.after, 'enc.first_block_out.row0');
    expectRows(found.latent, 'enc.latent');
    expectRows(found.h, 'enc.h');
    expectRows(found.shares, 'soft.probs');
    const indices = integers(found.indices); // [B, nc, l]
    expect(indices).toEqual(integers(values['soft.indices']));
    // The official code hands them out in the order (nc, B, l) under the shape [B, nc, l].
    const [runs, length] = [config.codebooks, config.tokens / config.codebooks];
    const turned = Array.from({ length: indices.length }, (_, i) => {
      const [c, b, at] = [Math.floor(i / (batch * length)), Math.floor(i / length) % batch, i % length];
      return indices[(b * runs + c) * length + at];
    });
    expect(turned).toEqual(integers(values['soft.info_indices']));
  });

  test('SoftVQ: shares of the codes and how close the mixtures are', async () => {
    const [shares, quant, h] = ['soft.probs', 'soft.quant', 'enc.h'].map((name) => floats(values[name]));
    const { latents } = { latents: await tokenizerOf('softvq').encodeLatents(images) };
    expectClose(latents.data as Float32Array, quant);
    const { codebookSize, latentDim } = configOf('softvq');
    const rows = shares.length / codebookSize;
    let [largest, cosine] = [0, 0];
    for (let r = 0; r < rows; r++) {
      largest += Math.max(...shares.subarray(r * codebookSize, (r + 1) * codebookSize)) / rows;
      const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
        let sum = 0;
        for (let i = r * latentDim; i < (r + 1) * latentDim; i++) sum += a[i] * b[i];
        return sum;
      };
      const mixture = latents.data as Float32Array;
      cosine += dot(h, mixture) / Math.sqrt(dot(h, h) * dot(mixture, mixture)) / rows;
    }
    const mean = shares.reduce((sum, x) => sum + x, 0) / shares.length;
    expectClose([mean, largest, cosine], floats(values['soft.avg_max_cos']));
  });

  test('SoftVQ: inside the decoder', async () => {
    const config = configOf('softvq');
    const graph = trace((g) => {
      const p = parameterAccess(g, softVqParameters(config));
      const latents = g.input('latents', 'f32', values['soft.quant'].shape);
      const post = postQuantise(p, latents);
      const before = decoderSequence(p, config, post);
      const patches = decodedPatches(p, config, before);
      return { post, before, patches, pixels: toPixels(p, config, patches) };
    });
    const found = await run(graph, modelOf('softvq').tokenizer.weights, {
      latents: tensor(values['soft.quant']),
    });
    expectRows(found.post, 'dec.post_quant.row0');
    expectRows(found.before, 'dec.first_block_in.row0');
    expectRows(found.patches, 'dec.before_to_pixel.row0');
    expectRows(found.pixels, 'dec.pixels');
  });

  test('SoftVQ: reconstruction, bytes, and latents that a generator drew', async () => {
    const tokenizer = tokenizerOf('softvq');
    const pixels = await tokenizer.reconstruct(images);
    expectRows(pixels, 'forward.row0');
    expectRows(pixels, 'dec.pixels');
    const { shape, data: bytes } = values['dec.uint8.row0'];
    const plane = shape[1] * shape[2];
    for (let i = 0; i < bytes.length; i++) {
      const value = (pixels.data as Float32Array)[(i % 3) * plane + Math.floor(i / 3)];
      expect(Math.abs(pixelToByte(value) - bytes[i])).toBeLessThanOrEqual(1);
    }
    const drawn = await tokenizer.decodeLatents(tensor(values['generated.latents']), { standardised: true });
    expectRows(drawn, 'generated.pixels.row0');
    const there = await tokenizer.encodeLatents(images, { standardised: true });
    expectClose(
      (await tokenizer.decodeLatents(there, { standardised: true })).data as Float32Array,
      pixels.data as Float32Array,
    );
    await tokenizer.dispose();
  });

  test('VQ: codes, latents, pixels', async () => {
    const tokenizer = modelOf('vq').createTokenizer({ backend }) as CodeTokenizer;
    expect(tokenizer).toBeInstanceOf(CodeTokenizer);
    const config = configOf('vq');
    const graph = trace((g) => {
      const p = parameterAccess(g, softVqParameters(config));
      return { h: encodeImages(p, config, g.input('images', 'f32', images.dims)) };
    });
    expectRows((await run(graph, modelOf('vq').tokenizer.weights, { images })).h, 'vq.h');
    const codes = await tokenizer.encode(images);
    expect(integers(codes)).toEqual(integers(values['vq.indices']));
    expectRows(await tokenizer.encodeLatents(images), 'vq.quant');
    expectRows(await tokenizer.reconstruct(images), 'vq.pixels.row0');
    expectRows(await tokenizer.decode(codes), 'vq.decode_code.row0');
    await tokenizer.dispose();
  });

  test('KL: moments, mode, sample, divergence, pixels', async () => {
    const tokenizer = tokenizerOf('kl');
    const config = configOf('kl');
    const graph = trace((g) => {
      const p = parameterAccess(g, softVqParameters(config));
      const moments = encodeImages(p, config, g.input('images', 'f32', images.dims));
      return { moments, divergence: reshape(klDivergence(config, moments), [batch]) };
    });
    const found = await run(graph, modelOf('kl').tokenizer.weights, { images });
    expectRows(found.moments, 'kl.moments');
    expectRows(found.divergence, 'kl.kl');
    expectRows(await tokenizer.encodeLatents(images), 'kl.mode');
    const noise = tensor(values['kl.noise']);
    expectRows(await tokenizer.encodeLatents(images, { noise }), 'kl.sample');
    expectRows(await tokenizer.reconstruct(images), 'kl.pixels_mode.row0');
    expectRows(await tokenizer.reconstruct(images, { noise }), 'kl.pixels_sample.row0');
    await tokenizer.dispose();
  });

  test('AE with mixed rotary positions: latents, pixels', async () => {
    const tokenizer = tokenizerOf('ae');
    expectRows(await tokenizer.encodeLatents(images), 'ae.quant');
    expectRows(await tokenizer.reconstruct(images), 'ae.pixels.row0');
    await tokenizer.dispose();
  });

  test('features of the frozen network', async () => {
    const { weights, alignment } = await alignmentOf();
    const graph = trace((g) => {
      const p = parameterAccess(g, alignmentParameters(alignment));
      return { features: alignmentFeatures(p, alignment, g.input('images', 'f32', images.dims)) };
    });
    expectRows((await run(graph, weights, { images })).features, 'repa.features');
  });

  test.each(Object.keys(json.train))(
    'training step %s: losses and every gradient',
    async (name) => {
      const kind = name.startsWith('repa_') ? 'softvq' : (name as Name);
      const align = name.startsWith('repa_') ? (name.slice('repa_'.length) as Alignment) : undefined;
      const config = configOf(kind);
      const { weights: alignmentWeights, alignment } = await alignmentOf();
      const own = softVqParameters(config);
      const extra = align ? alignmentParameters(alignment) : [];
      const trained = [...own, ...extra.filter((spec) => !spec.name.startsWith('repa_model.'))];
      let absent: string[] = [];
      const graph = trace((g) => {
        const p = parameterAccess(g, [...own, ...extra]);
        const x = g.input('images', 'f32', images.dims);
        const noise = kind === 'kl' ? g.input('noise', 'f32', values['kl.noise'].shape) : undefined;
        const { beta, entropy, kl_weight: klWeight, repa_weight: weight } = json.config;
        const step = latentTraining(p, config, x, {
          noise,
          commitBeta: beta,
          entropyRatio: entropy,
          klWeight,
        });
        const mse = meanSquaredError(step.pixels, x);
        const permutation =
          align === 'avg_1d_shuffle'
            ? g.input('permutation', 'i32', values['repa.permutation'].shape)
            : undefined;
        const fifth = align
          ? alignmentLoss(p, step.latents, alignmentFeatures(p, alignment, x), {
              kind: align,
              weight,
              permutation,
            })
          : undefined;
        const terms = [mse, ...step.losses, ...(fifth ? [fifth] : [])];
        const total = terms.reduce(add);
        const wrt = trained.map((spec) => p(spec.name));
        const found = gradients(total, wrt);
        absent = trained.filter((_, i) => !found[i]).map((spec) => spec.name);
        const outputs: Record<string, Value> = { total };
        for (const [i, term] of terms.entries()) outputs[`term ${i}`] = reshape(term, [1]);
        for (const [i, spec] of trained.entries()) {
          const gradient = found[i];
          if (gradient) outputs[`d ${spec.name}`] = gradient;
        }
        return outputs;
      });
      const weights = new Map([...modelOf(kind).tokenizer.weights, ...(align ? alignmentWeights : [])]);
      const feeds = {
        images,
        ...(kind === 'kl' && { noise: tensor(values['kl.noise']) }),
        ...(align === 'avg_1d_shuffle' && { permutation: permutationOf() }),
      };
      const found = await run(graph, weights, feeds);
      const scalar = (key: string) => Number((found[key]?.data as Float32Array | undefined)?.[0] ?? 0);
      const losses = [0, 1, 2, 3, 4].map((i) => scalar(`term ${i}`));
      expectClose([...losses, scalar('total')], floats(values[`train.${name}.losses`]), 1e-5);

      const summaries: Record<string, GradientSummary | null> = json.train[name].grads;
      const without = Object.keys(summaries).filter((key) => summaries[key] === null);
      const unused = without.filter((key) => !key.startsWith('decoder.model.patch_embed.'));
      expect(absent.sort()).toEqual(unused.sort());
      let compared = 0;
      for (const [key, summary] of Object.entries(summaries)) {
        if (summary === null) continue;
        const gradient = found[`d ${key}`];
        expect(gradient, key).toBeDefined();
        expectGradient(key, gradient.data as Float32Array, summary);
        compared++;
      }
      expect(compared + absent.length).toBe(trained.length);
      const arrays = Object.keys(values).filter((key) => key.startsWith(`train.${name}.grad.`));
      expect(arrays.length).toBeGreaterThan(0);
      for (const key of arrays) {
        const gradient = found[`d ${key.slice(`train.${name}.grad.`.length)}`].data as Float32Array;
        const scale = floats(values[key]).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        expectClose(
          gradient.map((x) => x / scale),
          floats(values[key]).map((x) => x / scale),
          1e-3,
        );
      }
    },
    180_000,
  );
});

async function alignmentOf() {
  const file = golden('family/softvq/repa.safetensors');
  const weights: Weights = new Map(
    Object.entries(file).map(([name, { shape, data }]) => [
      name,
      weightFromArray(name, shape, data as Float32Array),
    ]),
  );
  const sizes = goldenJson('family/softvq/softvq/timm_vit.json').repa;
  const alignment = alignmentConfigOf(weights, configOf('softvq'), {
    heads: sizes.num_heads,
    patchSize: json.config.repa_patch,
  });
  return { weights, alignment };
}
