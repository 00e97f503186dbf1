import { parameterAccess } from '@detailflow/blocks';
import type { ConfigObject } from '@detailflow/checkpoint';
import { type Backend, Tensor, trace } from '@detailflow/core';
import { sampleTokens } from '@detailflow/sampler';
import {
  editMask,
  generateSmooth,
  latentMap,
  parseScales,
  positionAverages,
  regionMask,
  type ScaleTokenizer,
  type ScaleTokenizerConfig,
  type ScaleTokenModel,
  type ScaleTransformerConfig,
  scaleInputs,
  scaleLoss,
  scaleTokenizerParameters,
  scaleTransformerParameters,
  summedMap,
} from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { runOnce } from './run-once';
import {
  expectDigest,
  formulaCodes,
  formulaNoise,
  formulaTensor,
  type OddRun,
  oddScales,
  openOdd,
} from './var-models';

/** Sums of the scales so far, `sum.K`, and what a transformer is fed with. */
function codesGraph(config: ScaleTokenizerConfig, shape: readonly number[], withInputs: boolean) {
  const { scales, coding } = config;
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const codes = g.input('codes', 'i32', shape);
    const counts = (k: number) =>
      g.constant(
        Float32Array.from(scales, (_, i) => Number(i <= k)),
        [scales.length],
      );
    const sums = coding === 'plain' ? [] : scales.map((_, k) => summedMap(p, config, codes, counts(k)));
    return {
      ...(withInputs && { maps: scaleInputs(p, config, codes) }),
      ...Object.fromEntries(sums.map((sum, k) => [`sum.${k}`, sum])),
    };
  });
}

const rowsOf = ({ data, dims }: Tensor<'int32'>): number[][] =>
  Array.from({ length: dims[0] }, (_, i) => [...data.subarray(i * dims[1], (i + 1) * dims[1])]);

/** The interpreter, whose operations the conformance cases hold, takes its time: two cases, of pictures the last, of the encoder the codes. */
const INTERPRETED = ['two', 'each'];

describe.each(devices)('on the %s backend', (device) => {
  const isQuick = device !== 'reference';
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  describe.each(isQuick ? Object.keys(oddScales.cases) : INTERPRETED)('%s', (name) => {
    const one = oddScales.cases[name];
    const { salt, classes } = one;

    async function open(list = one.scales, rules: ConfigObject = {}) {
      const model = await openOdd(name, one, list, rules);
      const tokenizer = model.createTokenizer({ backend }) as ScaleTokenizer;
      const config = model.tokenizer.config as unknown as ScaleTokenizerConfig;
      const token = model.createTokenModel?.({ backend, tokenizer }) as ScaleTokenModel;
      return { model, tokenizer, config, token, vae: model.tokenizer.weights };
    }

    test.each(one.lists.map(({ scales }, i) => [JSON.stringify(scales), i] as const))(
      'images -> codes -> pictures, along %s',
      async (_, i) => {
        const expected = one.lists[i];
        const opened = await open();
        const tokenizer = opened.tokenizer.withScales(parseScales(expected.scales));
        const config = { ...opened.config, scales: parseScales(expected.scales) };
        const images = formulaTensor(`${salt}images${i}`, expected.images);
        const codes = await tokenizer.encode(images);
        expect(rowsOf(codes)).toEqual(expected.codes);
        if (isQuick) {
          const graph = trace((g) => {
            const p = parameterAccess(g, scaleTokenizerParameters(config));
            return { latents: latentMap(p, config, g.input('images', 'f32', images.dims)) };
          });
          const { latents } = await runOnce(backend, graph, opened.vae, { images });
          expectDigest(latents, expected.latents, 'latents');
        }
        const of = await runOnce(backend, codesGraph(config, codes.dims, true), opened.vae, { codes });
        expectDigest(of.maps, expected.inputs, 'inputs');
        for (const [k, sum] of (expected.sums ?? []).entries()) expectDigest(of[`sum.${k}`], sum, `sum ${k}`);
        let tokens = 0;
        for (const [k, picture] of expected.pictures.entries()) {
          tokens += config.scales[k].rows * config.scales[k].columns;
          if (!picture || (!isQuick && k < config.scales.length - 1)) continue;
          expectDigest(await tokenizer.decode(codes, { tokens }), picture, `picture ${k}`);
        }
        await opened.model.close();
      },
    );

    test.each(one.forward.map(({ scales }, i) => [JSON.stringify(scales), i] as const))(
      'logits of all places and losses, along %s',
      async (_, i) => {
        const expected = one.forward[i];
        const { model, config, vae } = await open(expected.scales);
        const own = model.ar as NonNullable<typeof model.ar>;
        const transformer = own.config as unknown as ScaleTransformerConfig;
        const codes = formulaCodes(`${salt}codes${i}`, [2, own.tokens], own.vocabularySize);
        const { maps } = await runOnce(backend, codesGraph(config, codes.dims, true), vae, { codes });
        const graph = trace((g) => {
          const p = parameterAccess(g, scaleTransformerParameters(transformer));
          const inputs = {
            labels: g.input('labels', 'i32', [2]),
            maps: g.input('maps', 'f32', maps.dims),
            codes: g.input('codes', 'i32', codes.dims),
          };
          const { logits, loss } = scaleLoss(p, transformer, inputs);
          const progress = { trainedScales: expected.known, newestWeight: 0.3 };
          return {
            ...{ logits, loss },
            smoothed: scaleLoss(p, transformer, inputs, { labelSmoothing: 0.15 }).loss,
            progressive: scaleLoss(p, transformer, inputs, progress).loss,
          };
        });
        const labels = new Tensor('int32', Int32Array.of(1, classes), [2]);
        const found = await runOnce(backend, graph, own.weights, { labels, maps, codes });
        expectDigest(found.logits, expected.logits, 'logits');
        for (const key of ['loss', 'smoothed', 'progressive'] as const) {
          expect(Number(found[key].data[0]), key).toBeCloseTo(expected[key], 4);
        }
        await model.close();
      },
    );

    test.each(Object.entries(one.runs))('drawn: %s', async (_, run: OddRun) => {
      const { options } = run;
      const { model, tokenizer, config, token, vae } = await open(options.scales, {
        ...(options.max_pn && { max_pn: options.max_pn }),
        ...(options.invalid && { invalid_ids: [...options.invalid] }),
      });
      const { labels, cfg, mask } = options;
      const drawn = [labels.length, token.tokens];
      const keep = mask && {
        codes: formulaCodes(`${salt}given`, drawn, token.vocabularySize),
        mask: maskOf(mask, config),
      };
      if (keep) expect([...keep.mask.data]).toEqual(run.kept);
      const draw = {
        ...{ model: token, labels, cfg, topK: options.top_k, topP: options.top_p ?? 1 },
        ...(options.noise && { noise: formulaNoise(`${salt}noise`, [...drawn, token.vocabularySize]) }),
      };
      if (options.smooth) {
        let k = 0;
        for await (const step of generateSmooth({
          ...draw,
          ...{ backend, tokenizer: { config, weights: vae } },
        })) {
          expectDigest(step.map, run.sums?.[k++] as never, `sum ${k}`);
          if (k === config.scales.length) expectDigest(await step.pixels(), run.picture, 'picture');
        }
        expect(k).toBe(run.sums?.length);
      } else {
        let codes: Tensor<'int32'> | undefined;
        const guidance = options.llamagen ? 'constant' : 'growing';
        for await (const step of sampleTokens({ ...draw, keep, guidance })) codes = await step.tokens();
        const last = codes as Tensor<'int32'>;
        expect(rowsOf(last)).toEqual(run.codes);
        if (run.sums) {
          const sums = await runOnce(backend, codesGraph(config, last.dims, false), vae, { codes: last });
          for (const [k, sum] of run.sums.entries()) expectDigest(sums[`sum.${k}`], sum, `sum ${k}`);
        }
        expectDigest(await tokenizer.decode(last), run.picture, 'picture');
      }
      await token.dispose();
      await tokenizer.dispose();
      await model.close();
    });
  });
});

function maskOf({ region, inpaint }: NonNullable<OddRun['options']['mask']>, config: ScaleTokenizerConfig) {
  const [top, left, bottom, right] = region;
  const last = config.scales[config.scales.length - 1];
  return editMask(
    regionMask({ top, left, bottom, right }, last, inpaint ? 'outside' : 'inside'),
    config.scales,
  );
}

test.each(oddScales.areas.map((area) => [JSON.stringify(area.scale), area] as const))(
  "FlexVAR's positions at %s",
  (_, { scale, ...expected }) => {
    const { data, dims } = positionAverages(parseScales([scale])[0]);
    const table = formulaTensor('positions', [3, 1024]).data;
    const found = Float32Array.from({ length: dims[0] * 3 }, (_x, at) => {
      const [place, channel] = [Math.floor(at / 3), at % 3];
      let sum = 0;
      for (let i = 0; i < 1024; i++) sum += data[place * 1024 + i] * table[channel * 1024 + i];
      return sum;
    });
    expectDigest(new Tensor('float32', found, [dims[0], 3]), expected);
  },
);
