import { forward, placeMask, tokenModelParameters, tokenModelWeights } from '@detailflow/ar-model';
import {
  add,
  type Backend,
  concat,
  type Graph,
  resizeMatrix,
  Tensor,
  trace,
  type Value,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { crossEntropy } from '@detailflow/core/losses';
import {
  attentionMask,
  CodebookUsage,
  codebookEntries,
  createResolutionMap,
  groupSimilarity,
  tokenizerParameters,
  tokenizerWeights,
} from '@detailflow/tokenizer';
import { trainingForward } from '@detailflow/tokenizer/training';
import {
  pixelDistance,
  placeKinds,
  type StepVariant,
  sequenceIds,
  variantFeeds,
  variantTarget,
} from '@detailflow/train';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { expectGradient, type GradientSummary } from './gradient-summary';
import { goldenTokenizer, goldenTokenModel } from './models';

const constantFeed = (values: readonly number[], dims: readonly number[]) =>
  new Tensor('int32', Int32Array.from(values), dims);

describe.each(['A', 'B'] as const)('golden training values of configuration %s', (set) => {
  const json = goldenJson(`${set}/golden.json`);
  const values = golden(`${set}/golden_tokenizer.safetensors`);
  const { config, weights } = goldenTokenizer(set);
  const { tokens, groupSize, causalTokens } = config;
  const map = createResolutionMap({
    tokens,
    groupSize,
    causalNum: causalTokens,
    maxImageSize: config.imageSize,
    power: config.resolutionPower,
    encoderPatch: config.encoder.patchSize,
    decoderPatch: config.decoder.patchSize,
  });

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await openDevice(device);
    });
    afterAll(() => backend.close());

    async function run(
      graph: Graph,
      feeds: Record<string, Tensor>,
      of = weights,
    ): Promise<Record<string, Tensor>> {
      const executable = await backend.compile(graph, of);
      const results = await executable.run(feeds);
      await executable.dispose();
      return results;
    }

    test.each(Object.keys(json.tokenizer.train))('tokenizer step: %s', async (name) => {
      const reference = json.tokenizer.train[name];
      const noiseIndex: number | null = reference.noise_idx;
      const end = noiseIndex === null ? 0 : noiseIndex + (noiseIndex < causalTokens ? 1 : groupSize);
      const images = values.images;
      const [batch, , full] = images.shape;
      const encoderSide = full / config.encoder.patchSize;

      const { dec_res: size, t } = reference;
      const targetSize = t === tokens ? full : map.tokenToRes(t);
      const variant: StepVariant = { tokens: t, targetSize, size, noiseIndex };
      const target = variantTarget(floats(images), images.shape, variant);
      const row = values[`train.${name}.target.row0`];
      if (row) {
        const corner = target.subarray(0, 3 * full * full);
        expectClose(
          corner.filter((_, i) => i % full < size && Math.floor(i / full) % full < size),
          floats(row),
        );
      }

      const encoderLength = encoderSide ** 2 + tokens;
      const encoderMask = attentionMask({
        patches: encoderSide ** 2,
        tokens,
        groupSize,
        causalTokens,
        patchesSeeLatents: false,
        latentsSeePatches: true,
      });
      const feeds: Record<string, Tensor> = {
        images: new Tensor('float32', floats(images), images.shape),
        target: new Tensor('float32', target, images.shape),
        ...variantFeeds(config, variant),
        encoderResize: new Tensor(
          'float32',
          resizeMatrix('bilinear-antialias', config.encoder.positionGrid, encoderSide),
          [encoderSide, config.encoder.positionGrid],
        ),
        positions: constantFeed([...Array(tokens).keys()], [tokens]),
        encoderVisible: new Tensor('bool', encoderMask, [encoderLength, encoderLength]),
      };
      if (noiseIndex !== null) {
        const ranks = values[`enc.noise${noiseIndex}.ranks`];
        feeds.ranks = constantFeed(Array.from(ranks.data), ranks.shape);
      }

      const names = tokenizerParameters(config).map((spec) => spec.name);
      const graph = trace((g) => {
        const p = tokenizerWeights(g, config);
        const dtypes = { float32: 'f32', int32: 'i32', bool: 'bool' } as const;
        const x = Object.fromEntries(
          Object.entries(feeds).map(([key, feed]) => [
            key,
            g.input(key, dtypes[feed.type as 'float32'], feed.dims),
          ]),
        ) as Record<string, Value>;
        const correction = x.ranks && { ranks: x.ranks, isClean: x.isClean, isPrefix: x.isPrefix };
        const out = trainingForward(p, config, { ...x, correction } as never, {
          entropyRatio: json.config.entropy,
        });
        const targets = correction ? concat([x.target, x.target], 0) : x.target;
        const mse = pixelDistance(out.pixels, targets, x.pixelWeights, 'l2');
        const total = add(add(mse, out.vq), add(out.commit, out.entropy));
        const found = gradients(total, names.map(p));
        const parts = names.flatMap((key, i): [string, Value][] =>
          found[i] ? [[`grad.${key}`, found[i] as Value]] : [],
        );
        const fresh = out.fresh && { fresh: out.fresh, prefix: out.prefix as Value };
        return {
          mse,
          vq: out.vq,
          commit: out.commit,
          entropy: out.entropy,
          total,
          codes: out.codes,
          ...fresh,
          ...Object.fromEntries(parts),
        };
      });
      const results = await run(graph, feeds);

      const losses = reference.losses;
      const names5 = ['mse', 'vq', 'commit', 'entropy', 'total'];
      expectClose(
        names5.map((key) => results[key].data[0] as number),
        names5.map((key) => losses[key]),
      );
      expect(losses.mse).toBeGreaterThan(0);

      // Codes, usage and similarity: statistics of the passes.
      const clean = results.codes.data as Int32Array;
      const usage = new CodebookUsage(
        config.codebookSize,
        floats(golden(`${set}/tokenizer/model.safetensors`)['quantize.codebook_used']),
      );
      let used = usage.add(clean);
      let corrected = clean;
      if (noiseIndex !== null) {
        const fresh = results.fresh.data as Int32Array;
        const later = Int32Array.from(fresh.filter((_, i) => i % tokens >= end));
        used = (used * tokens + usage.add(later) * (tokens - end)) / (2 * tokens - end);
        corrected = fresh.map((code, i) => (i % tokens < end ? (results.prefix.data[i] as number) : code));
        const index = values[`train.${name}.index`];
        if (index) {
          const column = (k: number) => Array.from(index.data).filter((_, i) => i % 3 === k);
          expect(Array.from(clean)).toEqual(column(0));
          expect(Array.from(corrected)).toEqual(column(1));
          expect(Array.from(fresh, (code, i) => (i % tokens < end ? clean[i] : code))).toEqual(column(2));
        }
      }
      expect(used).toBeCloseTo(reference.codebook_usage, 6);
      const all = noiseIndex === null ? [clean] : [clean, corrected];
      const similarity = trace((g) => ({
        y: groupSimilarity(
          codebookEntries(
            tokenizerWeights(g, config),
            g.input('codes', 'i32', [batch * all.length, tokens]),
            config,
          ),
          groupSize,
        ),
      }));
      const codes = constantFeed(
        all.flatMap((row) => Array.from(row)),
        [batch * all.length, tokens],
      );
      const { y } = await run(similarity, { codes });
      expectClose([y.data[0] as number], [losses.cosine_similarity]);

      // Every gradient: its summary, and the whole array where there is one.
      expect(Object.keys(reference.grads).sort()).toEqual([...names].sort());
      for (const [key, summary] of Object.entries<GradientSummary | null>(reference.grads)) {
        const found = results[`grad.${key}`]?.data as Float32Array | undefined;
        if (summary === null) expect(found, key).toBeUndefined();
        else expectGradient(key, found as Float32Array, summary);
      }
      for (const key of Object.keys(values).filter((one) => one.startsWith(`train.${name}.grad.`))) {
        const [, parameter, from, to] = /\.grad\.(.*?)(?:\.rows(\d+)to(\d+))?$/.exec(
          key,
        ) as unknown as string[];
        const found = results[`grad.${parameter}`];
        const width = found.data.length / found.dims[0];
        const part =
          from === undefined
            ? found.data
            : (found.data as Float32Array).subarray(Number(from) * width, Number(to) * width);
        expectClose(part as Float32Array, floats(values[key]));
      }
    });

    /** An image shrunk to what t tokens are worth, then resized to the size they are decoded at. */
    test('AR step', async () => {
      const ar = golden(`${set}/golden_ar.safetensors`);
      const model = goldenTokenModel(set);
      const rows = ar['train.z_input'].shape[0];
      const rowOf = new Int32Array(rows * tokens);
      const known = tokens - groupSize;
      for (let i = 0; i < rows * known; i++) {
        rowOf[Math.floor(i / known) * tokens + (i % known)] = ar['train.z_input'].data[i];
      }
      const ids = sequenceIds(model.config, { labels: ar['train.labels'].data, rows: rowOf });
      const kinds = placeKinds(model.config);
      const names = tokenModelParameters(model.config).map((spec) => spec.name);
      const graph = trace((g) => {
        const p = tokenModelWeights(g, model.config);
        const logits = forward(p, model.config, {
          ids: g.input('ids', 'i32', [rows, tokens]),
          kinds: g.input('kinds', 'i32', [tokens]),
          positions: g.input('positions', 'i32', [tokens]),
          visible: g.input('visible', 'bool', [tokens, tokens]),
        });
        const loss = crossEntropy(logits, g.input('targets', 'i32', [rows, tokens]));
        const found = gradients(loss, names.map(p));
        return {
          logits,
          loss,
          ...Object.fromEntries(names.map((name, i) => [`grad.${name}`, found[i] as Value])),
        };
      });
      const results = await run(
        graph,
        {
          ids: constantFeed(Array.from(ids), [rows, tokens]),
          kinds: constantFeed(Array.from(kinds), [tokens]),
          positions: constantFeed([...Array(tokens).keys()], [tokens]),
          visible: new Tensor('bool', placeMask(tokens, model.config), [tokens, tokens]),
          targets: constantFeed(Array.from(ar['train.z_target'].data), [rows, tokens]),
        },
        model.weights,
      );
      expectClose(results.loss.data as Float32Array, floats(ar['train.loss']));
      expectClose(
        (results.logits.data as Float32Array).subarray(0, tokens * model.config.vocabularySize),
        floats(ar['train.logits_row0']),
      );
      for (const [key, summary] of Object.entries<GradientSummary>(json.ar.train.grads)) {
        expectGradient(key, results[`grad.${key}`].data as Float32Array, summary);
      }
      for (const key of Object.keys(ar).filter((name) => name.startsWith('train.grad.'))) {
        expectClose(results[`grad.${key.slice('train.grad.'.length)}`].data as Float32Array, floats(ar[key]));
      }
    });
  });
});
