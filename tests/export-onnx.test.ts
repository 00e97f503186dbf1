import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { exponentialNoise, Tensor } from '@detailflow/core';
import { exportOnnx, load, type Model } from 'detailflow';
import ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose, golden, goldenJson } from './golden';

const fixtures = (name: string) => path.join(import.meta.dirname, 'fixtures', name);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'detailflow-export-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs an exported generator with nothing but ONNX Runtime. */
async function run(file: string, labels: readonly number[], noise: Tensor, cfg: number, temperature = 1) {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  const one = (value: number) => new ort.Tensor('float32', Float32Array.of(value), [1]);
  const results = await session.run({
    labels: new ort.Tensor('int32', Int32Array.from(labels), [labels.length]),
    noise: noise as ort.Tensor,
    cfg: one(cfg),
    temperature: one(temperature),
  });
  await session.release();
  return results;
}

/** Draws of seeds 0, 1, ...: what the sampler uses by itself. */
function seedNoise(images: number, model: Model): Tensor {
  const { tokens, codebookSize } = model.tokenizer;
  const noise = new Float32Array(images * tokens * codebookSize);
  for (let image = 0; image < images; image++) {
    for (let position = 0; position < tokens; position++) {
      const first = (image * tokens + position) * codebookSize;
      const out = noise.subarray(first, first + codebookSize);
      exponentialNoise({ seed: image, position, count: codebookSize, out });
    }
  }
  return new Tensor('float32', noise, [images, tokens, codebookSize]);
}

describe.each(['A', 'B'] as const)('the exported generator of configuration %s', (set) => {
  const values = golden(`${set}/golden_ar.safetensors`);
  const { cfg_scale: cfg } = goldenJson(`${set}/golden.json`).ar.greedy;
  const labels = Array.from(values['gen.labels'].data);

  test.each([false, true])('draws the golden greedy tokens, gradual: %s', async (gradualCfg) => {
    const out = path.join(folder, `${set}-${gradualCfg}.onnx`);
    await exportOnnx(fixtures(`golden/${set}`), out, { guidance: gradualCfg ? 'gradual' : 'constant' });
    const ones = new Tensor(
      'float32',
      new Float32Array(values['gen.sampled.noise'].data.length).fill(1),
      values['gen.sampled.noise'].shape,
    );
    const { tokens } = await run(out, labels, ones, cfg);
    const name = gradualCfg ? 'gen.greedy_gradual.tokens' : 'gen.greedy.tokens';
    expect(Array.from(tokens.data as Int32Array)).toEqual(Array.from(values[name].data));
  });
});

const models = [
  'golden/A',
  'odd/all-causal',
  'odd/causal-decoder',
  'odd/single-group',
  '../../tests/fixtures/fashion-ref',
];

test.each(models)('%s: the same tokens and pixels as generate()', async (name) => {
  const out = path.join(folder, `${name.replaceAll(/\W/g, '-')}.onnx`);
  await exportOnnx(fixtures(name), out);
  const backend = await createNodeBackend();
  const model = await load(fixtures(name), { backend });
  const labels = [0, 2, 1];
  const options = { labels, seed: 0, cfg: 1.7, temperature: 0.9 };
  let tokens: Tensor | undefined;
  for await (const step of model.generate(options)) tokens = await step.tokens();
  const pixels = await model.decode(tokens as Tensor, { size: model.tokenizer.imageSize });
  const exported = await run(out, labels, seedNoise(labels.length, model), options.cfg, options.temperature);
  await model.dispose();
  await backend.close();
  expect(Array.from(exported.tokens.data as Int32Array)).toEqual(Array.from(tokens?.data as Int32Array));
  expect(exported.pixels.dims).toEqual(pixels.dims);
  expectClose(exported.pixels.data as Float32Array, pixels.data as Float32Array);
});

test('a cancelled export leaves nothing behind', async () => {
  const empty = await mkdtemp(path.join(folder, 'cancelled-'));
  const controller = new AbortController();
  const onProgress = () => controller.abort(new Error('enough'));
  const exporting = exportOnnx(fixtures('golden/A'), path.join(empty, 'a.onnx'), {
    signal: controller.signal,
    onProgress,
  });
  await expect(exporting).rejects.toThrow('enough');
  expect(await readdir(empty)).toEqual([]);
});
