import { parseTokenModelConfig, stepGraph } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { createWebGPUBackend, type WebGPUBackend } from '@detailflow/backend-webgpu';
import { type Backend, RandomStream } from '@detailflow/core';
import { modelUrl } from '@detailflow/model-fashion-32';
import { parseTrainingConfig, TokenizerTrainer, TokenModelTrainer } from '@detailflow/train';
import { load, type Model, openFamilyModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { webgpuMissing } from './devices';

describe.skipIf(webgpuMissing !== undefined)('WebGPU beside the Node backend', () => {
  let cpu: Backend;
  let gpu: WebGPUBackend;
  let models: { cpu: Model; gpu: Model };
  beforeAll(async () => {
    cpu = await createNodeBackend({ threads: 1 });
    gpu = await createWebGPUBackend();
    models = {
      cpu: await load(modelUrl, { backend: cpu }),
      gpu: await load(modelUrl, { backend: gpu }),
    };
  }, 120_000);
  afterAll(async () => {
    await models.cpu.dispose();
    await models.gpu.dispose();
    await cpu.close();
    await gpu.close();
  });

  type Options = Parameters<Model['generate']>[0];
  const draw = async (model: Model, options: Options) => {
    for await (const step of model.generate(options)) {
      if (step.count === step.total) {
        return { tokens: [...((await step.tokens()).data as Int32Array)], pixels: await step.pixels() };
      }
    }
    throw new Error('nothing was drawn');
  };

  test('the same seed gives the same tokens, for 20 pictures of the model in the box', async () => {
    const labels = Array.from({ length: 10 }, (_, i) => i);
    for (const options of [
      { labels, greedy: true, cfg: 2 },
      { labels, seed: 100, cfg: 2 },
    ]) {
      const [here, there] = [await draw(models.cpu, options), await draw(models.gpu, options)];
      expect(there.tokens).toEqual(here.tokens);
      const [a, b] = [here.pixels.data as Float32Array, there.pixels.data as Float32Array];
      expect(Math.max(...a.map((x, i) => Math.abs(x - b[i])))).toBeLessThan(1e-3);
    }
  }, 600_000);

  test('stored as fp16, a model lies on the device in half the memory and computes the same bits', async () => {
    const opened = await openFamilyModel(modelUrl);
    const { weights } = opened.ar as NonNullable<typeof opened.ar>;
    expect(new Set([...weights.values()].map(({ dtype }) => dtype))).toEqual(new Set(['f16']));
    const graph = stepGraph(parseTokenModelConfig(opened.card?.ar?.config));
    const compile = async (dtype?: 'fp32' | 'fp16') => {
      const before = gpu.memory().used;
      const executable = await gpu.compile(graph, weights, { dtype });
      return { executable, bytes: gpu.memory().used - before };
    };
    const [stored, asked, wide] = [await compile(), await compile('fp16'), await compile('fp32')];
    const bytes = (one: number) =>
      [...graph.weights.keys()].reduce((sum, name) => {
        const size = weights.get(name)?.shape.reduce((a, b) => a * b, 1) as number;
        return sum + 4 * Math.ceil((size * one) / 4);
      }, 0);
    expect(wide.bytes - stored.bytes).toBe(bytes(4) - bytes(2));
    expect(stored.bytes).toBeLessThan(0.52 * wide.bytes);
    expect(asked.bytes).toBe(stored.bytes);
    for (const { executable } of [stored, asked, wide]) await executable.dispose();
    await opened.close();

    const held = async (dtype?: 'fp32' | 'fp16') => {
      const model = await load(modelUrl, { backend: gpu, dtype });
      const found = await draw(model, { labels: [2], seed: 7, cfg: 1, tokens: 8 });
      await model.dispose();
      return found;
    };
    const [narrow, full] = [await held(), await held('fp32')];
    expect(narrow.tokens).toEqual(full.tokens);
    expect(narrow.pixels.data).toEqual(full.pixels.data);
  }, 300_000);

  test('a generation reads nothing back before someone asks; a step is few kernels in one submission', async () => {
    const before = gpu.counts.reads;
    let [steps, last] = [0, gpu.counts];
    for await (const step of models.gpu.generate({ labels: [3], seed: 5, cfg: 2 })) {
      const counts = gpu.counts;
      expect(counts.reads).toBe(before);
      expect(counts.dispatches - last.dispatches).toBeLessThanOrEqual(60);
      // The first step also sends the zeros of the cache.
      expect(counts.submissions - last.submissions).toBeLessThanOrEqual(steps === 0 ? 2 : 1);
      last = counts;
      steps++;
      if (step.count === step.total) await step.pixels();
    }
    expect(steps).toBe(15);
    // The tokens, the pixels, and the tokens that are kept for later.
    expect(gpu.counts.reads - before).toBeLessThanOrEqual(3);
  }, 120_000);

  test('a device that is lost on the way: a typed error, and another one draws the same from the seed', async () => {
    const options = { labels: [7], seed: 11, cfg: 2, tokens: 16 };
    const finish = async (model: Model, onStep?: () => void) => {
      let last: number[] = [];
      for await (const step of model.generate(options)) {
        last = [...((await step.tokens()).data as Int32Array)];
        onStep?.();
      }
      return last;
    };
    const expected = await finish(models.cpu);
    const first = await createWebGPUBackend();
    const model = await load(modelUrl, { backend: first });
    let steps = 0;
    const run = finish(model, () => ++steps === 3 && first.device.destroy());
    await expect(run).rejects.toMatchObject({ code: 'device-lost' });
    expect(steps).toBe(3);
    await model.dispose(); // ends, though the device is gone
    await first.close();

    const second = await createWebGPUBackend();
    const again = await load(modelUrl, { backend: second });
    expect(await finish(again)).toEqual(expected);
    await again.dispose();
    await second.close();
  }, 300_000);

  test('two generations at once, one cancelled and started again: each draws what it would alone', async () => {
    const tokensOf = async (model: Model, seed: number, signal?: AbortSignal, onStep?: () => void) => {
      let last: number[] = [];
      for await (const step of model.generate({ labels: [seed % 10], seed, cfg: 2, tokens: 16, signal })) {
        last = [...((await step.tokens()).data as Int32Array)];
        onStep?.();
      }
      return last;
    };
    const expected = [await tokensOf(models.cpu, 21), await tokensOf(models.cpu, 22)];
    const controller = new AbortController();
    let steps = 0;
    const cancelled = tokensOf(
      models.gpu,
      22,
      controller.signal,
      () => ++steps === 2 && controller.abort(new Error('enough')),
    );
    const [whole, cut] = await Promise.allSettled([tokensOf(models.gpu, 21), cancelled]);
    expect(whole).toMatchObject({ status: 'fulfilled', value: expected[0] });
    expect(cut).toMatchObject({ status: 'rejected', reason: { message: 'enough' } });
    expect(await Promise.all([21, 22].map((seed) => tokensOf(models.gpu, seed)))).toEqual(expected);
  }, 300_000);

  test('training goes the same way', async () => {
    const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
    const { tokenizer, tokenModel } = parseTrainingConfig({
      preset: 'tiny-32',
      tokenizer: {
        model: {
          ...{ imageSize: 8, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 },
          encoder: tower,
          decoder: tower,
        },
        ...{ steps: 8, batch: 4, microBatch: 4, warmup: 1, correction: 0.5, averageDecay: 0.9 },
      },
      tokenModel: { model: { dim: 8, heads: 2 }, steps: 8, batch: 4, microBatch: 4, warmup: 1, dropout: 0.1 },
    });
    const random = new RandomStream({ seed: 1, purpose: 999, position: 0 });
    const images = Float32Array.from({ length: 4 * 192 }, () => 2 * random.uniform() - 1);
    const codes = Int32Array.from({ length: 4 * 6 }, () => random.integer(16));
    const losses = async (backend: Backend) => {
      const shared = { backends: [backend], seed: 3 };
      const first = await TokenizerTrainer.create({
        ...{ ...shared, config: tokenizer.model, recipe: tokenizer.recipe },
      });
      const second = await TokenModelTrainer.create({
        ...{ ...shared, config: { ...tokenModel.model, classes: 3 }, recipe: tokenModel.recipe },
      });
      const found: number[] = [];
      for (let step = 0; step < 6; step++) {
        found.push((await first.train(images)).loss);
        const batch = { labels: Int32Array.of(0, 1, 2, 0), clean: codes, input: codes, target: codes };
        found.push((await second.train(batch)).loss);
      }
      await first.dispose();
      await second.dispose();
      return found;
    };
    const [here, there] = [await losses(cpu), await losses(gpu)];
    for (const [i, loss] of here.entries()) expect(Math.abs(there[i] - loss), `loss ${i}`).toBeLessThan(1e-3);
    expect(here.at(-1)).toBeLessThan(here[1]);
  }, 300_000);
});
