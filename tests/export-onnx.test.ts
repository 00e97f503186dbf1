import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { exponentialNoise, Tensor } from '@detailflow/core';
import { exportOnnx, load, type Model, openModel } from 'detailflow';
import ort from 'onnxruntime-node';
import protobuf from 'protobufjs';
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
  const { tokens, vocabularySize: codebookSize } = model.tokenModel as NonNullable<Model['tokenModel']>;
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
  'golden/S', // an AR model of fewer tokens than its tokenizer
  'odd/all-causal',
  'odd/causal-decoder',
  'odd/single-group',
  'odd/first-group-at-once',
  '../../tests/fixtures/fashion-ref',
];

test.each(models)('%s: the same tokens and pixels as generate()', async (name) => {
  const out = path.join(folder, `${name.replaceAll(/\W/g, '-')}.onnx`);
  await exportOnnx(fixtures(name), out);
  const backend = await createNodeBackend();
  const model = await load(fixtures(name), { backend });
  const labels = [0, 2, 1];
  const options = { labels, seed: 0, cfg: 1.7, temperature: 0.9 };
  let tokens: Tensor<'int32'> | undefined;
  for await (const step of model.generate(options)) tokens = await step.tokens();
  const pixels = await model.decode(tokens as Tensor<'int32'>);
  const exported = await run(out, labels, seedNoise(labels.length, model), options.cfg, options.temperature);
  await model.dispose();
  await backend.close();
  expect(Array.from(exported.tokens.data as Int32Array)).toEqual(Array.from(tokens?.data as Int32Array));
  expect(exported.pixels.dims).toEqual(pixels.dims);
  expectClose(exported.pixels.data as Float32Array, pixels.data as Float32Array);
});

describe('what a user of the file may do wrong ends in an error, and the process lives', () => {
  let file: string;
  let shape: { tokens: number; codebookSize: number; classes: number };
  beforeAll(async () => {
    file = path.join(folder, 'guarded.onnx');
    await exportOnnx(fixtures('golden/A'), file);
    const opened = await openModel(fixtures('golden/A'));
    const { tokens, codebookSize } = opened.tokenizer.config;
    shape = { tokens, codebookSize, classes: opened.ar!.config.classes };
    await opened.close();
  });

  /** Runs the file with nothing but onnxruntime-node, in a process of its own, which may die. */
  async function outcome(labels: readonly number[], images: number, dims = 1) {
    const { tokens, codebookSize } = shape;
    const program = `
      const ort = require('onnxruntime-node');
      const one = (value) => new ort.Tensor('float32', Float32Array.of(value), [1]);
      (async () => {
        const session = await ort.InferenceSession.create(${JSON.stringify(file)}, { logSeverityLevel: 4 });
        const labels = ${JSON.stringify(labels)};
        const size = ${images * tokens * codebookSize};
        const noise = new ort.Tensor('float32', new Float32Array(size).fill(1), [${images}, ${tokens}, ${codebookSize}]);
        const run = (given) => session.run({
          labels: new ort.Tensor('int32', Int32Array.from(given), ${dims === 1 ? '[given.length]' : '[given.length, 1]'}),
          noise, cfg: one(2), temperature: one(1),
        });
        const first = await run(labels).then(({ tokens }) => ({ dims: tokens.dims }), (error) => ({ error: error.message }));
        console.log(JSON.stringify(first));
      })();`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--eval', program], {
      cwd: path.join(import.meta.dirname, '..'),
    });
    return JSON.parse(stdout) as { dims?: number[]; error?: string };
  }

  test('a batch of any size from 1 on, with every class and without one', async () => {
    const { classes, tokens } = shape;
    expect(await outcome([0], 1)).toEqual({ dims: [1, tokens] });
    const all = Array.from({ length: classes + 1 }, (_, i) => i);
    expect(await outcome(all, all.length)).toEqual({ dims: [all.length, tokens] });
  });

  test.each<[string, readonly number[], number, RegExp]>([
    ['no image at all', [], 0, /labels\/Gather.*idx=0 must be within the inclusive range \[0,-1\]/],
    ['label -1', [-1, 2], 2, /labels\/Gather.*within the inclusive range \[-11,10\]/],
    ['label -11', [2, -11], 2, /labels\/Gather.*within the inclusive range \[-11,10\]/],
    ['the first label that is none', [11], 1, /labels\/Gather.*idx=11/],
    ['a label beyond all', [2 ** 31 - 1], 1, /labels\/Gather/],
    ['a label below all', [-(2 ** 31)], 1, /labels\/Gather/],
    ['noise for one image and labels for two', [1, 2], 1, /noise\/Reshape/],
    ['noise for three images and labels for two', [1, 2], 3, /noise\/Reshape/],
    ['noise for none', [1], 0, /noise\/Reshape/],
    ['labels for none', [], 1, /noise\/Reshape/],
  ])('%s', async (_, labels, images, message) => {
    expect((await outcome(labels, images)).error).toMatch(message);
  });

  test('labels of two axes', async () => {
    expect((await outcome([1], 1, 2)).error).toMatch(/labels/);
  });
});

test('nodes and values bear the names of the model', async () => {
  const file = path.join(folder, 'named.onnx');
  await exportOnnx(fixtures('golden/A'), file);
  const { root } = protobuf.parse(`
    syntax = "proto3";
    message Model { Graph graph = 7; }
    message Graph { repeated Node node = 1; repeated Tensor initializer = 5; }
    message Tensor { string name = 8; }
    message Node { repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5; }
    message Attribute { Graph g = 6; }
  `);
  type Node = { name: string; opType: string; output: string[]; attribute: { g?: { node: Node[] } }[] };
  const { graph } = root.lookupType('Model').decode(await readFile(file)) as unknown as {
    graph: { node: Node[]; initializer: { name: string }[] };
  };
  const nodes = graph.node.flatMap((node) => [node, ...node.attribute.flatMap(({ g }) => g?.node ?? [])]);
  expect(nodes.length).toBeGreaterThan(200);
  const names = nodes.map(({ name }) => name);
  expect(names).not.toContain('');
  expect(new Set(names).size).toBe(names.length);
  const values = [...nodes.flatMap(({ output }) => output), ...graph.initializer.map(({ name }) => name)];
  expect(new Set(values).size).toBe(values.length);

  const opened = await openModel(fixtures('golden/A'));
  const modules = [...opened.ar!.weights.keys(), ...opened.tokenizer.weights.keys()]
    .map((name) => name.slice(0, Math.max(0, name.lastIndexOf('.'))))
    .filter((name) => name !== '');
  await opened.close();
  const products = nodes.filter(
    ({ opType, name }) => opType === 'MatMul' && modules.some((module) => name.includes(`/${module}/MatMul`)),
  );
  expect(products.length).toBeGreaterThan(20);
  expect(names).toContain('body/layers.2.attention.wqkv/MatMul');
  expect(nodes.find(({ name }) => name === 'body/layers.2.attention.wqkv/MatMul')?.output).toEqual([
    'body/layers.2.attention.wqkv/MatMul_output_0',
  ]);
  expect(names.some((name) => name.startsWith('body/layers.2.attention/Softmax'))).toBe(true);
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
