import {
  createGroupTokenModel,
  feedForwardWidth,
  type GroupTransformerConfig,
  groupGenerator,
  groupParameters,
  parameterAccess,
  regionOrder,
} from '@detailflow/blocks';
import type { Family } from '@detailflow/checkpoint';
import {
  type Backend,
  type Condition,
  scheduleSteps,
  Tensor,
  type TextCondition,
  type TokenModel,
  trace,
} from '@detailflow/core';
import {
  createTextTokenModel,
  gptConfigOf,
  gptSettings,
  intervalGuidance,
  llamagenFamily,
  parFamily,
  type TextGptConfig,
  textGptConfigOf,
  textGptLoss,
  textGptParameters,
  trainedTextParameters,
} from '@detailflow/llamagen';
import { llamagenTraining, parTraining } from '@detailflow/llamagen/trainable';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose } from './golden';
import { integers, withGradients } from './golden-family';
import {
  entriesOf,
  expectGradients,
  exponentialNoise,
  type OddModel,
  type OddRun,
  oddGpts,
  oddVqTokenizers,
  sampledOf,
  weightsOf,
  wholeNumbers,
} from './llamagen-models';
import { runOnce } from './run-once';
import { json, numbersOf, safetensors, treeOf } from './softvq-models';

/** The texts of a model. What stands at places of padding must not matter. */
function textsOf(name: string, { args, lengths = [] }: OddModel): TextCondition[] {
  const [places, width] = [args.cls_token_num as number, args.caption_dim as number];
  const all = numbersOf(name, [lengths.length, places, width]);
  return lengths.map((length, i) => ({
    features: new Tensor('float32', all.slice(i * places * width, (i + 1) * places * width), [places, width]),
    mask: new Tensor(
      'bool',
      Uint8Array.from({ length: places }, (_, place) => Number(place >= places - length)),
      [places],
    ),
  }));
}

/** Logits [B, N, V] of all codes, which `next` gives step by step. */
async function logitsAlong(
  model: Pick<TokenModel, 'schedule' | 'tokens' | 'vocabularySize'>,
  codes: Int32Array,
  next: (chosen: Int32Array | undefined) => Promise<Float32Array>,
): Promise<Float32Array> {
  const { schedule, tokens, vocabularySize: size } = model;
  const rows = codes.length / tokens;
  const out = new Float32Array(codes.length * size);
  let chosen: Int32Array | undefined;
  for (const { position, count } of scheduleSteps(schedule)) {
    const data = await next(chosen);
    const fed: number[] = [];
    for (let row = 0; row < rows; row++) {
      const from = row * tokens + position;
      out.set(data.subarray(row * count * size, (row + 1) * count * size), from * size);
      fed.push(...codes.subarray(from, from + count));
    }
    chosen = Int32Array.from(fed);
  }
  return out;
}

/** What the sampler is asked for, but for guidance that ends. */
const optionsOf = ({ interval: _, noise: __, ...options }: OddRun) => options;

async function drawn(options: SampleOptions): Promise<Tensor<'int32'>> {
  let last: Tensor<'int32'> | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  return last as Tensor<'int32'>;
}

/** The model for classes or texts of some weights, and what it is asked for. */
function partsOf(name: string) {
  const one = oddGpts[name];
  const { args, kind } = one;
  const weights = weightsOf(one.shapes);
  const settings = gptSettings(args);
  const text = kind === 'text' ? textGptConfigOf(weights, settings) : undefined;
  const group = kind === 'text' ? undefined : gptConfigOf(weights, settings);
  const config = (text ?? group) as TextGptConfig | GroupTransformerConfig;
  const conditions: readonly Condition[] = text ? textsOf(name, one) : (one.labels as number[]);
  const codes = wholeNumbers(name, config.vocabularySize, conditions.length * config.tokens);
  const modelOn = (backend: Backend) =>
    text
      ? createTextTokenModel({ config: text, weights, backend })
      : createGroupTokenModel({ config: group as GroupTransformerConfig, weights, backend });
  /** The batch of every run. */
  const labels = text ? conditions : conditions.slice(0, 2);
  const noiseOf = (run: OddRun) =>
    exponentialNoise(run.noise.name, [labels.length, config.tokens, config.vocabularySize]);
  return { one, args, kind, weights, text, group, config, conditions, labels, codes, modelOn, noiseOf };
}

/** A tokenizer of so many pixels and codes, which a transformer is trained beside. */
const beside = (side: number, codebookSize: number) => {
  const tower = { channels: [32], blocks: 1, latentChannels: 4 };
  return { imageSize: side, encoder: tower, decoder: tower, codebookSize, codeDim: 4 };
};

describe.each(Object.keys(oddGpts))('%s', (name) => {
  const { one, args, kind, weights, text, group, config, conditions, labels, codes, modelOn, noiseOf } =
    partsOf(name);
  const { tokens, vocabularySize: size } = config;

  test('weights and order', () => {
    const specs = text ? textGptParameters(text) : groupParameters(group as GroupTransformerConfig);
    expect(Object.fromEntries(specs.map((spec) => [spec.name, spec.shape]))).toEqual(
      Object.fromEntries(entriesOf(one.shapes)),
    );
    const multiplier = args.ffn_dim_multiplier as number | null;
    expect(feedForwardWidth(config.dim, args.multiple_of as number, multiplier)).toBe(config.hiddenDim);
    if (one.order) expect([...regionOrder(tokens, args.ar_token_num as number)]).toEqual(one.order);
  });

  describe.each(devices)('on the %s backend', (device) => {
    const isQuick = device !== 'reference';
    let backend: Backend;
    beforeAll(async () => {
      backend = await openDevice(device);
    });
    afterAll(() => backend.close());

    test('logits of all codes, step by step', async () => {
      const model = modelOn(backend);
      const session = await model.begin(conditions);
      const logits = await logitsAlong(model, codes, async (chosen) => (await session.predict(chosen)).data);
      expectClose(sampledOf(logits, one.logits), one.logits.values);
      const probe = numbersOf('probe', [tokens, size]);
      const means = one.means.map((_, code) => {
        const row = logits.subarray(code * size, (code + 1) * size);
        return row.reduce((sum, x, i) => sum + x * probe[(code % tokens) * size + i], 0) / size;
      });
      expectClose(means, one.means);
      await session.dispose();
      await model.dispose();
    });

    // The interpreter shows that the logits are right; ways of drawing differ in the sampler.
    test('draws', async () => {
      const model = modelOn(backend);
      const causalTokens = group?.causalTokens ?? tokens;
      for (const run of isQuick ? one.runs : one.runs.slice(1, 2)) {
        const guidance =
          run.interval === undefined ? undefined : intervalGuidance({ causalTokens }, run.interval);
        const asked = { model, labels, noise: noiseOf(run), guidance, ...optionsOf(run) };
        const shown = JSON.stringify({ ...run, noise: undefined });
        expect(integers(await drawn(asked)), shown).toEqual(run.noise.tokens);
        if (group && run.topP === undefined) {
          const there = await drawn({ ...asked, onDevice: true });
          expect(integers(there), `${shown} on the device`).toEqual(run.noise.tokens);
        }
      }
      await model.dispose();
    });

    if (group && isQuick)
      test('draws as one graph', async () => {
        const plain = ({ interval, topK, topP, greedy }: OddRun) => interval ?? topK ?? topP ?? greedy;
        const runs = one.runs.filter((run) => plain(run) === undefined);
        expect(runs.length).toBe(2);
        const { body, counter, iterations } = groupGenerator(group as GroupTransformerConfig);
        const executable = await backend.compile(body, weights);
        for (const run of runs) {
          const state = await executable.createState({ batch: labels.length });
          for (let i = 0; i < iterations; i++) {
            const feeds = {
              [counter]: new Tensor('int32', Int32Array.of(i), [1]),
              labels: new Tensor('int32', Int32Array.from(labels as number[]), [labels.length]),
              noise: noiseOf(run),
              cfg: new Tensor('float32', Float32Array.of(run.cfg), [1]),
              temperature: new Tensor('float32', Float32Array.of(run.temperature ?? 1), [1]),
            };
            await executable.run(feeds, { state });
          }
          const { data, dims } = await state.read('codes');
          const found = integers({ data }).filter((_, i) => i % dims[1] < tokens);
          expect(found).toEqual(run.noise.tokens);
          await state.dispose();
        }
        await executable.dispose();
      });

    if (group)
      test('logits of a pool, whose rows begin one after another', async () => {
        const model = createGroupTokenModel({ config: group as GroupTransformerConfig, weights, backend });
        const pool = await model.openPool?.({ rows: conditions.length });
        if (!pool) throw new Error('there is no pool');
        const steps = [...scheduleSteps(model.schedule)];
        const members = conditions.map((condition) => pool.begin([condition]));
        const logits = new Float32Array(codes.length * size);
        for (let round = 0; round < steps.length + members.length - 1; round++) {
          const running = [...members.keys()].filter((row) => steps[round - row] !== undefined);
          // Members that predict as many are fed together.
          for (const count of new Set(running.map((row) => steps[round - row].count))) {
            const fed = running.filter((row) => steps[round - row].count === count);
            const found = await pool.predict(
              fed.map((row) => {
                const before = steps[round - row - 1];
                const from = row * tokens + (before?.position ?? 0);
                return { member: members[row], chosen: before && codes.slice(from, from + before.count) };
              }),
            );
            for (const [i, row] of fed.entries()) {
              logits.set(found[i][0], (row * tokens + steps[round - row].position) * size);
            }
          }
        }
        expectClose(sampledOf(logits, one.logits), one.logits.values);
        await pool.dispose();
        await model.dispose();
      });

    if (group)
      test('a step of training: loss and gradients', async () => {
        const rows = conditions.length;
        const side = Math.sqrt(tokens);
        const family = kind === 'regions' ? parTraining : llamagenTraining;
        const { dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon, groupSize, classes } =
          group as GroupTransformerConfig;
        const settings = { dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon };
        const trained = family.tokenModel(kind === 'regions' ? { ...settings, groupSize } : settings, {
          tokenizer: family.tokenizer(beside(side, size)),
          classes,
        });
        const { order = [] } = one;
        const raster = codes.slice();
        for (const i of codes.keys()) {
          const place = i % tokens;
          raster[i - place + (order[place] ?? place)] = codes[i];
        }
        const graph = trace((g) => {
          const p = parameterAccess(g, trained.specs);
          const { loss } = trained.loss(g, p, { batch: rows });
          return withGradients(
            { loss },
            p,
            trained.specs.map((spec) => spec.name),
          );
        });
        const feeds = trained.feeds({
          labels: Int32Array.from(conditions as number[]),
          rows: raster,
          targets: raster,
        });
        const results = await runOnce(backend, graph, weights, feeds);
        expectClose([Number(results.loss.data[0])], [one.train.loss]);
        expectGradients(results, one.train.gradients);
      });

    if (text)
      test('a step of training: loss and gradients', async () => {
        const config = text as TextGptConfig;
        const { textPlaces: places, textWidth: width } = config;
        const rows = conditions.length;
        const { features, mask } = (conditions as TextCondition[])[1];
        const shown = Array.from((mask as Tensor<'bool'>).data);
        // Row 0 has no picture, row 1 a text, row 2 learns without its text, whose mask stays.
        const given = [
          new Float32Array(places * width),
          features.data.map((x, i) => x * shown[Math.floor(i / width)]),
          numbersOf('cls_embedding.uncond_embedding', [places, width]),
        ];
        const masks = [
          Array(places).fill(1),
          shown,
          Array.from((conditions as TextCondition[])[2].mask?.data ?? []),
        ];
        const graph = trace((g) => {
          const p = parameterAccess(g, textGptParameters(config));
          const inputs = {
            features: g.input('features', 'f32', [rows, places, width]),
            mask: g.input('mask', 'bool', [rows, places]),
            codes: g.input('codes', 'i32', [rows, tokens]),
            valid: g.input('valid', 'f32', [rows]),
          };
          return withGradients(textGptLoss(p, config, inputs), p, trainedTextParameters(config));
        });
        const trained = (valid: readonly number[]) =>
          runOnce(backend, graph, weights, {
            features: new Tensor('float32', Float32Array.from(given.flatMap((row) => [...row])), [
              rows,
              places,
              width,
            ]),
            mask: new Tensor('bool', Uint8Array.from(masks.flat()), [rows, places]),
            codes: new Tensor('int32', codes, [rows, tokens]),
            valid: new Tensor('float32', Float32Array.from(valid), [rows]),
          });
        const results = await trained([0, 1, 1]);
        expectClose([Number(results.loss.data[0])], [one.train.loss]);
        expectGradients(results, one.train.gradients);
        const none = await trained([0, 0, 0]);
        expect(Number(none.loss.data[0])).toBeCloseTo(one.train.lossOfNone as number, 10);
      });

    const { picture } = one;
    if (picture && isQuick)
      test('from released files to pixels', async () => {
        if (!picture) return;
        const tokenizer = oddVqTokenizers[picture.tokenizer];
        const family: Family = kind === 'regions' ? parFamily : llamagenFamily;
        const files = {
          tokenizer: treeOf('tokenizer', {
            'config.json': json({ codebook_l2_norm: tokenizer.isNormalised }),
            'model.safetensors': await safetensors([...weightsOf(tokenizer.shapes).values()]),
          }),
          ar: treeOf('ar', {
            'config.json': json(args),
            'model.safetensors': await safetensors([...weights.values()]),
          }),
        };
        expect(await family.recognise(files)).toBe(true);
        const opened = await family.open(files);
        const codec = opened.createTokenizer({ backend });
        const model = opened.createTokenModel?.({ backend, tokenizer: codec });
        if (!model) throw new Error('there is no transformer');
        for (const run of one.runs) {
          const guidance = run.interval === undefined ? undefined : opened.intervalGuidance?.(run.interval);
          const asked = { model, labels, noise: noiseOf(run), guidance, topK: 0, ...optionsOf(run) };
          expect(integers(await drawn(asked))).toEqual(run.noise.tokens);
        }
        const pixels = await codec.decode(
          new Tensor('int32', Int32Array.from(one.runs[1].noise.tokens), [labels.length, tokens]),
        );
        expectClose(sampledOf(pixels.data, picture), picture.values);
        await model.dispose();
        await codec.dispose?.();
        await opened.close();
      });
  });
});

test.each([
  ['two regions', 16, 1, /16 tokens cannot be cut into 2 regions/],
  ['nine regions of a grid of four', 16, 8, /multiples of groupSize \(9\)/],
  ['four regions of a grid of five', 25, 3, /multiples of groupSize \(4\)/],
])('%s are refused', (_, tokens, special, message) => {
  const weights = weightsOf({
    ...oddGpts['one head'].shapes,
    spe_tok_embeddings: { special_embeddings: { weight: [special, 20] } },
  });
  expect(() => gptConfigOf(weights, { tokens, heads: 1 })).toThrow(message);
});
