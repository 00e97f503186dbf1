import { groupTraining } from '@detailflow/blocks';
import {
  type Backend,
  type Graph,
  type ParameterSpec,
  readFloat32,
  Tensor,
  type Tensors,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { gptConfigOf, gptSettings, vqConfigOf } from '@detailflow/llamagen';
import { llamagenTraining, parTraining } from '@detailflow/llamagen/trainable';
import {
  Buffer,
  type BufferKind,
  PlainTokenizerTrainer,
  plainTokenizerStepGraph,
  sequenceStepGraph,
  TokenModelTrainer,
  type TrainableDrawingModel,
} from '@detailflow/train';
import { varTraining } from '@detailflow/var/trainable';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import {
  expectGradients,
  familyWeights,
  firstRows,
  floatTensor,
  integers,
  renamedVae,
  type Summary,
  varParts,
} from './golden-family';

type Golden = Record<string, GoldenTensor>;

const quantiser = { vqRatio: 1, commitBeta: 0.25, entropyRatio: 0 };
const float = (weights: Weights, name: string) => readFloat32(weights.get(name) as Weight);

/** A tokenizer of LlamaGen's small set, as settings say it. */
async function vqParts(imageSize = 32) {
  const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
  return { weights, model: llamagenTraining.tokenizer(vqConfigOf(weights, { imageSize })) };
}

const classModels = [
  { set: 'c2i', family: llamagenTraining, file: 'llamagen/gpt_c2i/c2i_P.pt', key: 'model', imageSize: 32 },
  { set: 'gqa', family: llamagenTraining, file: 'llamagen/gpt_gqa/consolidated.pth', imageSize: 16 },
  { set: 'par_g4', family: parTraining, file: 'par/g4/PAR-P-4x.pt', key: 'model', imageSize: 32 },
  { set: 'par_g16', family: parTraining, file: 'par/g16/PAR-P-16x.pt', key: 'model', imageSize: 32 },
];

/** A GPT as a run has it: built of settings, for the codes of a tokenizer. */
async function gptParts({ family, file, key, imageSize }: (typeof classModels)[number]) {
  const weights = await familyWeights(file, key);
  const settings = gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`));
  const config = gptConfigOf(weights, settings);
  const { dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon, groupSize, classes } = config;
  const { model: tokenizer } = await vqParts(imageSize);
  const own = { dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon };
  const model = family.tokenModel(
    { ...own, ...(family.name === 'par' && { groupSize }) },
    { tokenizer, classes },
  );
  expect(model.config).toEqual(config);
  return { weights, model };
}

/** VAR as a run has it. */
async function scaleParts() {
  const { config, tokenizerConfig, vae, weights } = await varParts();
  const tokenizer = varTraining.tokenizer(tokenizerConfig);
  const { depth, dim, heads, hiddenDim, isShared, isNormalised, normEpsilon, classes } = config;
  const model = varTraining.tokenModel(
    { depth, dim, heads, hiddenDim, isShared, isNormalised, normEpsilon },
    { tokenizer, classes },
  );
  expect([tokenizer.config, model.config]).toEqual([tokenizerConfig, config]);
  return { weights, model, vae, tokenizer };
}

describe.each(devices)("a run's training steps on the %s backend", (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  /** Runs the graph of a step from known parameters; outputs, and the gradients that it leaves. */
  async function step(
    graph: Graph,
    specs: readonly ParameterSpec[],
    known: Weights,
    { feeds, fixed = new Map() }: { feeds: Tensors; fixed?: Weights },
  ) {
    const of = (kind: BufferKind, name: string) => `${kind}.${name}`;
    const buffers: [string, Tensor][] = [];
    for (const { name, shape } of specs) {
      const values = await float(known, name);
      buffers.push([of(Buffer.parameter, name), new Tensor('float32', values, shape)]);
      buffers.push([
        of(Buffer.gradient, name),
        new Tensor('float32', new Float32Array(values.length), shape),
      ]);
    }
    const executable = await backend.compile(graph, fixed);
    const state = await backend.createState(Object.fromEntries(buffers));
    const outputs = await executable.run(feeds, { state });
    const found: Record<string, Tensor> = {};
    for (const { name } of specs) found[`grad.${name}`] = await state.read(of(Buffer.gradient, name));
    await state.dispose();
    await executable.dispose();
    return { outputs, gradients: found };
  }

  function expectAll(gradients: Tensors, values: Golden, prefix: string): void {
    for (const name of Object.keys(values).filter((one) => one.startsWith(prefix))) {
      const { data } = gradients[`grad.${name.slice(prefix.length)}`];
      expectClose(data as Float32Array, floats(values[name]));
    }
  }

  const knownCodes = (model: TrainableDrawingModel, labels: readonly number[], codes: readonly number[]) => {
    const rows = Int32Array.from(codes);
    return model.feeds({ labels: Int32Array.from(labels), rows, targets: rows });
  };

  test.each(classModels)('GPT $set: loss and every gradient from codes in row order', async (kind) => {
    const { set, family } = kind;
    const values = golden(`family/${family.name}/golden_${set}.safetensors`);
    const { grads } = goldenJson(`family/${family.name}/golden.json`)[set].train;
    const { weights, model } = await gptParts(kind);
    const [microBatch] = values.codes.shape;
    const feeds = knownCodes(model, integers(values.labels), integers(values.codes));
    const graph = sequenceStepGraph(model, { microBatch });
    const { outputs, gradients } = await step(graph, model.specs, weights, { feeds });
    expectClose(outputs.loss.data as Float32Array, floats(values['train.loss']));
    expectGradients(gradients, grads);
    expectAll(gradients, values, 'train.grad.');
  });

  test('the VQ tokenizer: losses, their sum, and every gradient', async () => {
    const values = golden('family/llamagen/golden_vq.safetensors');
    const { weights, model } = await vqParts();
    const [microBatch] = values.images.shape;
    const recipe = { pixelLoss: 'l2' as const, quantiser: { ...quantiser, entropyRatio: 0.1 } };
    const graph = plainTokenizerStepGraph({ model, microBatch, recipe });
    const feeds = { images: floatTensor(values.images) };
    const { outputs, gradients } = await step(graph, model.specs, weights, { feeds });
    const losses = ['reconstruction', 'vq', 'commit', 'entropy', 'loss'].map((one) =>
      Number(outputs[one].data[0]),
    );
    expectClose(losses, floats(values['train.losses']));
    expectGradients(gradients, goldenJson('family/llamagen/golden.json').vq.train.grads);
    expectAll(gradients, values, 'train.grad.');
  });

  test('VAR: loss and every gradient from codes alone, which the frozen tokenizer makes maps of', async () => {
    const values = golden('family/var/golden_var.safetensors');
    const vaeValues = golden('family/var/golden_vae.safetensors');
    const { weights, model, vae, tokenizer } = await scaleParts();
    const labels = integers(values['train.labels']);
    const encoder = tokenizer.create({ weights: vae, backend });
    const images = floatTensor(vaeValues.images);
    const codes = integers(await encoder.encode(images)).slice(0, labels.length * model.tokens);
    await encoder.dispose();
    const graph = sequenceStepGraph(model, { microBatch: labels.length });
    const feeds = knownCodes(model, labels, codes);
    const { outputs, gradients } = await step(graph, model.specs, weights, { feeds, fixed: vae });
    expectClose(outputs.loss.data as Float32Array, floats(values['train.plain.loss']));
    const mean = (outputs.positionLoss.data as Float32Array).reduce((a, b) => a + b, 0) / model.tokens;
    expect(mean).toBeCloseTo((outputs.loss.data as Float32Array)[0], 5);
    const summaries: Record<string, Summary | null> =
      goldenJson('family/var/golden.json')['train.plain.grads'];
    expectGradients(gradients, summaries);
    expectAll(gradients, values, 'train.plain.grad.');
  });

  test("VAR's tokenizer: losses, their sum, and every gradient", async () => {
    const values = golden('family/var/golden_vae.safetensors');
    const { vae, tokenizer: model } = await scaleParts();
    const recipe = { pixelLoss: 'l2' as const, quantiser };
    const graph = plainTokenizerStepGraph({ model, microBatch: 2, recipe });
    const feeds = { images: firstRows(values.images, 2) };
    const { outputs, gradients } = await step(graph, model.specs, vae, { feeds });
    const at = (name: string) => Number(outputs[name].data[0]);
    expectClose(
      [at('reconstruction'), at('vq') + at('commit'), at('loss')],
      floats(values['vaetrain.losses']),
    );
    expectGradients(gradients, goldenJson('family/var/golden.json')['vaetrain.grads'], renamedVae);
  });

  test('the trainers do the same: loss and norm of a step, and what a branch that is dropped changes', async () => {
    const values = golden('family/var/golden_var.safetensors');
    const vaeValues = golden('family/var/golden_vae.safetensors');
    const { weights, model, vae, tokenizer } = await scaleParts();
    const labels = Int32Array.from(integers(values['train.labels']));
    const encoder = tokenizer.create({ weights: vae, backend });
    const all = (await encoder.encode(floatTensor(vaeValues.images))).data;
    await encoder.dispose();
    const clean = all.slice(0, labels.length * model.tokens);
    const schedule = { steps: 2, warmup: 0, initialFactor: 1, finalFactor: 1 };
    const optimiser = { betas: [0.9, 0.95] as const, epsilon: 1e-8 };
    const common = { microBatch: labels.length, learningRate: 1e-3, schedule, optimiser };
    const arrays = async (from: Weights, specs: readonly ParameterSpec[]) =>
      new Map(await Promise.all(specs.map(async ({ name }) => [name, await float(from, name)] as const)));
    const losses: number[] = [];
    for (const dropPath of [0, 0.9]) {
      const trainer = await TokenModelTrainer.create({
        ...{ config: model, tokenizer: vae, backends: [backend], seed: 1 },
        recipe: { ...common, labelDropout: 0, correction: 0, dropout: 0, dropPath },
        parameters: await arrays(weights, model.specs),
      });
      const { loss, norm } = await trainer.train({ labels, clean, input: clean, target: clean });
      losses.push(loss);
      if (dropPath === 0) {
        const summaries = Object.values<Summary | null>(
          goldenJson('family/var/golden.json')['train.plain.grads'],
        );
        const norms = summaries.map((one) => (one === null ? 0 : 'norm' in one ? one.norm : one[0]));
        expect(Math.abs(norm / Math.hypot(...norms) - 1)).toBeLessThan(1e-3);
      }
      await trainer.dispose();
    }
    expectClose([losses[0]], floats(values['train.plain.loss']));
    expect(Math.abs(losses[1] - losses[0])).toBeGreaterThan(1e-4);

    const vq = golden('family/llamagen/golden_vq.safetensors');
    const parts = await vqParts();
    const trainer = await PlainTokenizerTrainer.create({
      ...{ model: parts.model, backends: [backend], seed: 1 },
      recipe: {
        ...common,
        microBatch: vq.images.shape[0],
        pixelLoss: 'l2',
        quantiser: { ...quantiser, entropyRatio: 0.1 },
      },
      parameters: await arrays(parts.weights, parts.model.specs),
    });
    const report = await trainer.train(floats(vq.images));
    const found = [report.reconstruction, report.vq, report.commit, report.entropy, report.loss];
    expectClose(found, floats(vq['train.losses']));
    await trainer.dispose();
  });
});

test('a GPT of a family is the group transformer with its own beginning and order', async () => {
  const { model } = await gptParts(classModels[2]);
  const plain = groupTraining(model.config as Parameters<typeof groupTraining>[0]);
  expect(model.specs).toEqual(plain.specs);
  const codes = Int32Array.from({ length: model.tokens }, (_, i) => i);
  const rows = { labels: Int32Array.of(1), rows: codes, targets: codes };
  expect(model.feeds(rows).targets.data.slice(0, 5)).toEqual(Int32Array.of(0, 4, 32, 36, 1));
  expect(plain.feeds(rows).targets.data.slice(0, 3)).toEqual(Int32Array.of(0, 1, 2));
});
