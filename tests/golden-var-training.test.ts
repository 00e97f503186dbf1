import { parameterAccess } from '@detailflow/blocks';
import { type Backend, Tensor, type Tensors, trace } from '@detailflow/core';
import {
  createScaleTokenizer,
  droppedLabels,
  latentMap,
  parseScales,
  type ScaleLossOptions,
  type ScaleTokenizerConfig,
  type ScaleTransformerConfig,
  scaleCodes,
  scaleForward,
  scaleInputs,
  scaleLoss,
  scaleTokenizerLosses,
  scaleTokenizerParameters,
  scaleTransformerParameters,
  summedMap,
} from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import {
  expectGradients,
  expectSummary,
  firstRows,
  flexVarParts,
  floatTensor,
  integers,
  renamedVae as renamed,
  varParts,
  withGradients,
} from './golden-family';

type Golden = Record<string, GoldenTensor>;

const systems = [
  { name: 'VAR', open: varParts, folder: 'family/var' },
  { name: 'FlexVAR', open: () => flexVarParts([1, 2, 3, 5, 6]), folder: 'family/flexvar' },
];

describe.each(devices)('training on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  describe.each(systems)('of $name', ({ name, open, folder }) => {
    const values: Golden = golden(`${folder}/golden_var.safetensors`);
    const vaeValues: Golden = golden(`${folder}/golden_vae.safetensors`);
    const json = goldenJson(`${folder}/golden.json`);
    const rows = 3;
    let parts: Awaited<ReturnType<typeof varParts>>;
    let inputs: { codes: Tensor; maps: Tensor };
    beforeAll(async () => {
      parts = await open();
      inputs = await tokenized(parts.tokenizerConfig, vaeValues.images);
    });

    /** Codes of all scales, and what the transformer is fed with. */
    async function tokenized(config: ScaleTokenizerConfig, images: GoldenTensor) {
      const graph = trace((g) => {
        const p = parameterAccess(g, scaleTokenizerParameters(config));
        const codes = scaleCodes(p, config, latentMap(p, config, g.input('images', 'f32', images.shape)));
        return { codes, maps: scaleInputs(p, config, codes) };
      });
      const executable = await backend.compile(graph, parts.vae);
      const { codes, maps } = await executable.run({ images: floatTensor(images) });
      await executable.dispose();
      return { codes, maps };
    }

    async function step(labels: Int32Array, options: ScaleLossOptions, keep?: readonly GoldenTensor[]) {
      const { config, weights } = parts;
      const specs = scaleTransformerParameters(config);
      const graph = trace((g) => {
        const p = parameterAccess(g, specs);
        const found = scaleLoss(
          p,
          config,
          {
            labels: g.input('labels', 'i32', [rows]),
            maps: g.input('maps', 'f32', inputs.maps.dims),
            codes: g.input('codes', 'i32', inputs.codes.dims),
            keep: keep?.map((_, i) => g.input(`keep.${i}`, 'bool', [rows])),
          },
          options,
        );
        return withGradients(
          found,
          p,
          specs.map((spec) => spec.name),
        );
      });
      const executable = await backend.compile(graph, weights);
      const masks = keep?.map(({ data }, i) => [
        `keep.${i}`,
        new Tensor('bool', Uint8Array.from(data as Float32Array), [rows]),
      ]);
      const feeds: Tensors = {
        ...inputs,
        labels: new Tensor('int32', labels, [rows]),
        ...Object.fromEntries(masks ?? []),
      };
      const results = await executable.run(feeds);
      await executable.dispose();
      return results;
    }

    test('a plain step: loss and every gradient', async () => {
      const results = await step(Int32Array.from(integers(values['train.labels'])), {});
      expectClose(results.loss.data as Float32Array, floats(values['train.plain.loss']));
      expectGradients(results, json['train.plain.grads']);
      for (const key of Object.keys(values).filter((one) => one.startsWith('train.plain.grad.'))) {
        const own = results[`grad.${key.slice('train.plain.grad.'.length)}`].data as Float32Array;
        expectClose(own, floats(values[key]));
      }
    });

    test('a step with dropped labels, dropped branches and smoothed targets', async () => {
      const keys = Object.keys(values).filter((key) => key.startsWith('train.keep.'));
      const labels = droppedLabels(integers(values['train.labels']), floats(values['train.label_draws']), {
        classes: parts.config.classes,
      });
      const results = await step(
        labels,
        { dropPathRate: json.config.var.drop_path_rate, labelSmoothing: 0.1 },
        keys.map((_, i) => values[`train.keep.${i}`]),
      );
      expectClose(results.loss.data as Float32Array, floats(values['train.drop.loss']));
      expectGradients(results, json['train.drop.grads']);
      const [, length, size] = results.logits.dims;
      const row = (results.logits.data as Float32Array).subarray(length * size, 2 * length * size);
      expectClose(row, floats(values['train.drop.logits.row1']));
    });

    if (name === 'VAR') {
      test('a step of progressive training', async () => {
        const labels = Int32Array.from(integers(values['train.labels']));
        const results = await step(labels, { trainedScales: 3 });
        expectClose(results.loss.data as Float32Array, floats(values['train.prog2.loss']));
        const all = Object.entries(results).filter(([key]) => key.startsWith('grad.'));
        const norm = Math.hypot(...all.map(([, { data }]) => Math.hypot(...(data as Float32Array))));
        expect(Math.abs(norm / json['train.prog2.total_norm'] - 1)).toBeLessThan(1e-3);
      });

      test('the tokenizer: losses and every gradient', async () => {
        const { tokenizerConfig: config, vae } = parts;
        const images = firstRows(vaeValues.images, 2);
        const specs = scaleTokenizerParameters(config);
        const graph = trace((g) => {
          const p = parameterAccess(g, specs);
          const found = scaleTokenizerLosses(p, config, g.input('images', 'f32', images.dims));
          return withGradients(
            { ...found },
            p,
            specs.map((spec) => spec.name),
          );
        });
        const executable = await backend.compile(graph, vae);
        const results = await executable.run({ images });
        const losses = [results.reconstruction, results.vq, results.loss].map(({ data }) => Number(data[0]));
        expectClose(losses, floats(vaeValues['vaetrain.losses']));
        expectGradients(results, json['vaetrain.grads'], renamed);
        for (const key of Object.keys(vaeValues).filter((one) => one.startsWith('vaetrain.grad.'))) {
          const own = results[`grad.${renamed(key.slice('vaetrain.grad.'.length))}`].data as Float32Array;
          expectClose(own, floats(vaeValues[key]));
        }
      });
    }
  });

  test('all places at once: the logits and the maps of enc.codes', async () => {
    for (const { open, folder, list } of [
      { ...systems[0], list: undefined },
      { ...systems[1], open: () => flexVarParts([1, 2, 3, 4, 6]), list: 'tf' },
      { ...systems[1], list: 'tf2' },
      { ...systems[1], open: () => flexVarParts([1, 3, 4]), list: 'tf3' },
    ]) {
      const parts = await open();
      const values: Golden = golden(`${folder}/golden_var.safetensors`);
      const vae: Golden = golden(`${folder}/golden_vae.safetensors`);
      const set = list === undefined || list === 'tf' ? 'enc' : `enc${list.slice(2)}`;
      const whole = set === 'enc';
      const codes = vae[`${set}.codes`];
      const rows = whole ? 2 : 1;
      const length = codes.shape[1];
      const labels = whole ? integers(values['tf.labels']) : integers(values['tf.labels']).slice(0, 1);
      const maps = await run(
        parts.tokenizerConfig,
        parts.vae,
        Array.from(codes.data).slice(0, rows * length),
        rows,
      );
      const reference = vae[set === 'enc' ? (list ? 'enc.var_input' : 'var_input') : ''];
      if (reference) expectClose(maps.maps.data as Float32Array, floats(reference));
      for (const k of list ? [] : parts.scales.keys()) {
        expectClose(maps[`sum.${k}`].data as Float32Array, floats(vae[`enc.fhat.s${k}`]));
      }
      const logits = await logitsOf(parts.config, parts.weights, maps.maps, labels);
      expectClose(logits, floats(values[whole ? 'tf.logits' : `${list}.logits.row0`]));
    }

    async function run(
      config: ScaleTokenizerConfig,
      weights: Parameters<Backend['compile']>[1],
      codes: readonly number[],
      rows: number,
    ): Promise<Tensors> {
      const shape = [rows, codes.length / rows];
      const graph = trace((g) => {
        const p = parameterAccess(g, scaleTokenizerParameters(config));
        const input = g.input('codes', 'i32', shape);
        const sums = config.coding === 'plain' ? [] : config.scales;
        const counts = (k: number) =>
          g.constant(
            Float32Array.from(sums, (_, i) => Number(i <= k)),
            [sums.length],
          );
        return {
          maps: scaleInputs(p, config, input),
          ...Object.fromEntries(sums.map((_, k) => [`sum.${k}`, summedMap(p, config, input, counts(k))])),
        };
      });
      const executable = await backend.compile(graph, weights);
      return executable.run({ codes: new Tensor('int32', Int32Array.from(codes), shape) });
    }

    async function logitsOf(
      config: ScaleTransformerConfig,
      weights: Parameters<Backend['compile']>[1],
      maps: Tensor,
      labels: readonly number[],
    ): Promise<Float32Array> {
      const rows = labels.length;
      const graph = trace((g) => {
        const p = parameterAccess(g, scaleTransformerParameters(config));
        const inputs = { labels: g.input('labels', 'i32', [rows]), maps: g.input('maps', 'f32', maps.dims) };
        return { logits: scaleForward(p, config, inputs) };
      });
      const executable = await backend.compile(graph, weights);
      const feeds = { maps, labels: new Tensor('int32', Int32Array.from(labels), [rows]) };
      return (await executable.run(feeds)).logits.data as Float32Array;
    }
  });

  test('FlexVAR: another list of a smaller picture, and the resized preview of every scale', async () => {
    const json = goldenJson('family/flexvar/golden.json');
    const { tokenizerConfig: config, vae } = await flexVarParts(json.config.patch_nums);
    const values: Golden = golden('family/flexvar/golden_vae.safetensors');
    const tokenizer = createScaleTokenizer({ config, weights: vae, backend });
    const codes = new Tensor('int32', (values['enc.codes'].data as Int32Array).slice(0, 66), [1, 66]);
    let tokens = 1;
    for (const [k, side] of json.config.patch_nums.entries()) {
      if (k === 0) continue;
      tokens += side * side;
      const [shape, summary] = json.multi_scale_img[`s${k}`];
      const pixels = await tokenizer.decode(codes, { tokens, size: 96 });
      expect(pixels.dims).toEqual(shape);
      expectSummary(`s${k}`, pixels.data, summary);
    }
    const scales = parseScales(json.config.other_pn);
    const graph = trace((g) => {
      const p = parameterAccess(g, scaleTokenizerParameters(config));
      const map = latentMap(p, config, g.input('images', 'f32', [1, 3, 24, 24]));
      return { map, codes: scaleCodes(p, { ...config, scales }, map) };
    });
    const executable = await backend.compile(graph, vae);
    const results = await executable.run({ images: firstRows(values.images, 1) });
    expect(integers(results.codes)).toEqual(integers(values['enc3.codes']));
    expectClose(results.map.data as Float32Array, floats(values['enc.f']).slice(0, results.map.data.length));
  });
});
