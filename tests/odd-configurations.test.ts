import { fileURLToPath } from 'node:url';
import {
  createTokenModel,
  feedForwardWidth,
  forwardGraph,
  type GroupTokenModel,
  officialTokenModelConfig,
  PlaceKind,
  placeMask,
} from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { type OfficialCheckpoint, readOfficialFolder } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { type Backend, resizeMatrix, stepAt, Tensor, type TensorType } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { guide, sampleTokens } from '@detailflow/sampler';
import {
  attentionMask,
  createResolutionMap,
  createTokenizer,
  encoderGraph,
  officialTokenizerConfig,
  type ResolutionMap,
  type Tokenizer,
} from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';

// Unlisted combinations of settings in the official on-disk form, and what tools/reference computes for them.
const configurations = [
  'two-causal-groups',
  'all-causal',
  'groups-of-one',
  'causal-decoder',
  'large-grid',
  'uneven-towers',
  'causal-towers',
  'single-group',
  'first-group-at-once',
  'plain-codebook',
  'plain-codebook-of-one',
];
const alsoOnReference = ['single-group', 'all-causal', 'first-group-at-once', 'plain-codebook-of-one'];

describe.each(configurations)('odd configuration %s', (name) => {
  const values = golden(`../odd/${name}/expected.safetensors`);
  const expected = goldenJson(`../odd/${name}/expected.json`);
  const devices = alsoOnReference.includes(name) ? ['cpu', 'reference'] : ['cpu'];

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let folders: OfficialCheckpoint[];
    let tokenizer: Tokenizer;
    let model: GroupTokenModel;
    beforeAll(async () => {
      const folder = fileURLToPath(new URL(`./fixtures/odd/${name}/`, import.meta.url));
      folders = await Promise.all(
        (['tokenizer', 'ar'] as const).map(async (kind) =>
          readOfficialFolder(await openFolder(`${folder}${kind}`), kind),
        ),
      );
      const [vq, ar] = folders;
      backend =
        device === 'reference' ? createReferenceBackend() : await createNodeBackend({ device: 'cpu' });
      tokenizer = createTokenizer({ config: officialTokenizerConfig(vq), weights: vq.weights, backend });
      model = createTokenModel({ config: officialTokenModelConfig(ar.config), weights: ar.weights, backend });
    });
    afterAll(async () => {
      await tokenizer?.dispose();
      await model?.dispose();
      await backend?.close();
      await Promise.all((folders ?? []).map((folder) => folder.close()));
    });

    test('the settings arrive in the models', () => {
      const { settings } = expected;
      const { config } = tokenizer;
      expect(config).toMatchObject({
        imageSize: settings.image,
        tokens: settings.tokens,
        groupSize: settings.group,
        causalTokens: settings.causal ?? settings.group,
        codebookSize: settings.codebook[0],
        codebookDim: settings.codebook[1],
        causalEncoder: settings.causal_encoder,
        causalDecoder: settings.causal_decoder,
        correction: settings.correction,
        resolutionPower: settings.power,
      });
      expect(config.normalisedCodebook ?? true).toBe(settings.normalised ?? true);
      for (const [i, tower] of [config.encoder, config.decoder].entries()) {
        const [width, heads, layers, mlpWidth] = i === 0 ? settings.enc : settings.dec;
        expect(tower).toMatchObject({ width, heads, layers, mlpWidth, patchSize: settings.patches[i] });
      }
      const [dim, heads, kvHeads, layers] = settings.ar;
      expect(model.config).toMatchObject({
        tokens: settings.tokens,
        groupSize: settings.group,
        causalTokens: settings.causal ?? settings.group,
        vocabularySize: settings.codebook[0],
        classes: settings.classes,
        dim,
        layers,
        heads,
        kvHeads: kvHeads ?? heads,
        hiddenDim: expected.feed_forward_width,
        ropeBase: settings.rope_base,
      });
      expect(feedForwardWidth(dim, settings.multiple_of, settings.ffn_multiplier)).toBe(
        expected.feed_forward_width,
      );
    });

    test('resolution map', () => expectResolutions(tokenizer.resolutions, expected.resolution));

    test('encoder output before quantisation', async () => {
      const { config } = tokenizer;
      const { tokens, groupSize, causalTokens } = config;
      const [batch, , side] = values.images.shape;
      const grid = side / config.encoder.patchSize;
      const feeds: Record<string, Tensor> = {
        images: tensor(values.images),
        positions: new Tensor(
          'int32',
          Int32Array.from({ length: tokens }, (_, i) => i),
          [tokens],
        ),
        resize: new Tensor('float32', resizeMatrix('bilinear-antialias', config.encoder.positionGrid, grid), [
          grid,
          config.encoder.positionGrid,
        ]),
      };
      if (config.causalEncoder) {
        const patches = grid * grid;
        const who = { patchesSeeLatents: false, latentsSeePatches: true };
        const mask = attentionMask({ patches, tokens, groupSize, causalTokens, ...who });
        feeds.visible = new Tensor('bool', mask, [patches + tokens, patches + tokens]);
      }
      if (config.correction) {
        feeds.prefix = new Tensor('int32', new Int32Array(batch * tokens), [batch, tokens]);
        feeds.isPrefix = new Tensor('bool', new Uint8Array(tokens), [tokens]);
        feeds.second = new Tensor('bool', new Uint8Array(1), [1]);
      }
      const executable = await backend.compile(encoderGraph(config), folders[0].weights);
      const { h } = await executable.run(feeds);
      await executable.dispose();
      expectClose(h.data as Float32Array, floats(values['enc.h']));
    });

    test('codes of all tokens, of the first ones, and of a smaller image', async () => {
      const images = tensor<'float32'>(values.images);
      expect(integers(await tokenizer.encode(images))).toEqual(integers(values['enc.codes']));
      const short = await tokenizer.encode(images, { tokens: expected.short_tokens });
      expect(integers(short)).toEqual(integers(values['enc.short.codes']));
      if (!values.small_images) return;
      const small = await tokenizer.encode(tensor<'float32'>(values.small_images));
      expect(integers(small)).toEqual(integers(values['enc.small.codes']));
    });

    if (expected.noise.length === 0) {
      test('without its weights, self-correction is refused', async () => {
        await expect(
          tokenizer.encodeCorrected(tensor<'float32'>(values.images), { noiseIndex: 0 }),
        ).rejects.toMatchObject({
          code: 'unsupported',
        });
      });
    } else {
      test.each(expected.noise as number[])('self-correction from token %i', async (noiseIndex) => {
        const ranks = tensor<'int32'>(values[`enc.noise${noiseIndex}.ranks`]);
        const rows = await tokenizer.encodeCorrected(tensor<'float32'>(values.images), { noiseIndex, ranks });
        const index = integers(values[`enc.noise${noiseIndex}.index`]);
        for (const [column, row] of [rows.clean, rows.input, rows.target].entries()) {
          expect(integers(row)).toEqual(index.filter((_, i) => i % 3 === column));
        }
      });
    }

    test.each(Object.keys(values).filter((key) => key.startsWith('dec.')))('%s', async (key) => {
      const [tokens, size] = key.match(/\d+/g)!.map(Number);
      const [rows] = values[key].shape;
      const data = Int32Array.from(integers(values['enc.codes']).slice(0, rows * tokenizer.tokens));
      const codes = new Tensor('int32', data, [rows, tokenizer.tokens]);
      const pixels = await tokenizer.decode(codes, { tokens, size });
      expect(pixels.dims).toEqual(values[key].shape);
      expectClose(pixels.data as Float32Array, floats(values[key]));
      if (size !== tokenizer.resolution(tokens)) return;
      const bySize = await tokenizer.decode(codes, { tokens });
      expect(bySize.dims).toEqual(pixels.dims);
    });

    test.each(expected.prefixes as number[])('logits after %i tokens, in one pass', async (known) => {
      const { causalTokens, groupSize, vocabularySize, tokens } = model.config;
      const specials = known < causalTokens ? 0 : groupSize - 1;
      const length = 1 + known + specials;
      const rows = values['ar.labels'].shape[0];
      const kinds = Int32Array.from({ length }, (_, place) => {
        if (place === 0) return PlaceKind.class;
        return place > causalTokens && place <= causalTokens + specials ? PlaceKind.special : PlaceKind.token;
      });
      const ids = Int32Array.from({ length: rows * length }, (_, i) => {
        const [row, place] = [Math.floor(i / length), i % length];
        if (place === 0) return values['ar.labels'].data[row];
        if (kinds[place] === PlaceKind.special) return place - causalTokens - 1;
        return values['ar.codes'].data[row * tokens + place - 1 - (place > causalTokens ? specials : 0)];
      });
      const executable = await backend.compile(forwardGraph(model.config), folders[1].weights);
      const { logits } = await executable.run({
        ids: new Tensor('int32', ids, [rows, length]),
        kinds: new Tensor('int32', kinds, [length]),
        positions: new Tensor('int32', Int32Array.from(kinds.keys()), [length]),
        visible: new Tensor('bool', placeMask(length, model.config), [length, length]),
      });
      await executable.dispose();
      const reference = values[`ar.prefix${known}.logits`];
      const count = reference.shape[1] * vocabularySize;
      const data = logits.data as Float32Array;
      const last = Array.from({ length: rows }, (_, row) => {
        const end = (row + 1) * length * vocabularySize;
        return Array.from(data.subarray(end - count, end));
      });
      expectClose(last.flat(), floats(reference));
    });

    test('logits along a sequence, with the cache', async () => {
      const codes = integers(values['ar.codes']);
      const session = await model.begin(integers(values['ar.labels']));
      const checked: number[] = [];
      let chosen: Int32Array | undefined;
      while (session.position < model.tokens) {
        const logits = (await session.predict(chosen)).data as Float32Array;
        const { position, nextCount } = session;
        const reference = values[`ar.prefix${position}.logits`];
        if (reference) {
          expectClose(logits, floats(reference));
          checked.push(position);
        }
        if (position + nextCount === model.tokens) break;
        chosen = Int32Array.from(
          [0, 1, 2].flatMap((row) =>
            codes.slice(row * model.tokens + position, row * model.tokens + position + nextCount),
          ),
        );
      }
      await session.dispose();
      expect(checked).toEqual(expected.prefixes);
    });

    test.each(Object.keys(expected.recipes))('%s tokens', async (key) => {
      const { cfg, gradual, greedy, temperature, top_k: topK, top_p: topP } = expected.recipes[key];
      const draws = greedy
        ? {}
        : { temperature, topK, topP, noise: tensor<'float32'>(values[`gen.${key}.noise`]) };
      const guidance = gradual ? 'gradual' : 'constant';
      const labels = integers(values['gen.labels']);
      let last: number[] = [];
      for await (const step of sampleTokens({ model, labels, cfg, guidance, greedy, ...draws })) {
        last = integers(await step.tokens());
      }
      expect(last).toEqual(integers(values[`gen.${key}.tokens`]));
    });

    test('logits under gradual guidance, along the greedy tokens', async () => {
      const tokens = integers(values['gen.greedy_gradual.tokens']);
      const labels = integers(values['gen.labels']);
      const { cfg, gradual } = expected.recipes.greedy_gradual;
      expect(gradual).toBe(true);
      const { vocabularySize } = model;
      const session = await model.begin([...labels, ...labels.map(() => model.unconditional())]);
      const guided = new Float32Array(tokens.length * vocabularySize);
      let chosen: Int32Array | undefined;
      for (let position = 0; position < model.tokens; ) {
        const logits = (await session.predict(chosen)).data as Float32Array;
        const count = session.nextCount;
        const size = count * vocabularySize;
        const scale = model.guidances.gradual(stepAt(model.schedule, position), cfg);
        const blocks = labels.map((_, row) => {
          const free = labels.length + row;
          const at = (row * model.tokens + position) * vocabularySize;
          const conditional = logits.subarray(row * size, (row + 1) * size);
          const unconditional = logits.subarray(free * size, (free + 1) * size);
          guide(conditional, unconditional, scale, guided.subarray(at, at + size));
          return tokens.slice(row * model.tokens + position, row * model.tokens + position + count);
        });
        chosen = Int32Array.from([...blocks, ...blocks].flat());
        position += count;
      }
      await session.dispose();
      expectClose(guided, floats(values['gen.greedy_gradual.logits']));
    });
  });
});

const setups: ResolutionTables[] = goldenJson('../odd/resolution.json');

test.each(setups.map((tables) => [JSON.stringify(tables.args), tables] as const))(
  'resolution map of %s',
  (_, tables) => {
    const { args } = tables;
    const map = createResolutionMap({
      tokens: args.tokens,
      groupSize: args.group,
      causalNum: args.causal,
      maxImageSize: args.max_size,
      power: args.power,
      encoderPatch: args.enc_patch,
      decoderPatch: args.dec_patch,
    });
    expectResolutions(map, tables);
  },
);

interface ResolutionTables {
  args: Record<'tokens' | 'group' | 'causal' | 'max_size' | 'enc_patch' | 'dec_patch' | 'power', number>;
  token2res: Record<string, number>;
  token2enc_res: Record<string, number>;
  token2dec_res: Record<string, number>;
  token2dec_out_res: Record<string, number>;
  encres2besttoken: Record<string, number>;
  decres2besttoken: Record<string, number>;
  decres2mintoken: Record<string, number>;
  decres2maxtoken: Record<string, number>;
  best_res: number[];
  best_token: number[];
  find_closest_resolution: [number, number][];
}

function expectResolutions(map: ResolutionMap, tables: ResolutionTables): void {
  expect([...map.tokenCounts]).toEqual(Object.keys(tables.token2res).map(Number));
  const ofTokens = (size: (n: number) => number) =>
    Object.fromEntries(map.tokenCounts.map((n) => [String(n), size(n)]));
  expect(ofTokens((n) => map.tokenToRes(n))).toEqual(tables.token2res);
  expect(ofTokens((n) => map.tokenToEncRes(n))).toEqual(tables.token2enc_res);
  expect(ofTokens((n) => map.tokenToDecRes(n))).toEqual(tables.token2dec_res);
  expect(ofTokens((n) => map.tokenToDecOutRes(n))).toEqual(tables.token2dec_out_res);
  expect(Object.fromEntries(map.encResToBestToken)).toEqual(tables.encres2besttoken);
  expect(Object.fromEntries(map.decResToBestToken)).toEqual(tables.decres2besttoken);
  expect(Object.fromEntries(map.decResToMinToken)).toEqual(tables.decres2mintoken);
  expect(Object.fromEntries(map.decResToMaxToken)).toEqual(tables.decres2maxtoken);
  expect([...map.bestResolutions]).toEqual(tables.best_res);
  expect([...map.bestTokens]).toEqual(tables.best_token);
  for (const [size, closest] of tables.find_closest_resolution) {
    expect(map.findClosestResolution(size), `closest to ${size}`).toBe(closest);
  }
}

function tensor<T extends TensorType = TensorType>({ dtype, data, shape }: GoldenTensor): Tensor<T> {
  return (
    dtype === 'I32'
      ? new Tensor('int32', data as Int32Array, shape)
      : new Tensor('float32', data as Float32Array, shape)
  ) as Tensor<T>;
}

function integers({ data }: GoldenTensor | Tensor): number[] {
  return Array.from(data as Int32Array);
}
