import { officialTokenModelConfig, tokenModelParameters } from '@detailflow/ar-model';
import { openStateDicts } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { type Backend, readFloat32, Tensor, type Tensors, type Weight, type Weights } from '@detailflow/core';
import { SiglipNetwork } from '@detailflow/eval';
import { siglipConfig, siglipWeights } from '@detailflow/features';
import {
  createResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import {
  type Arrays,
  Buffer,
  dropPathMasks,
  frozenBy,
  keptImages,
  Learner,
  type LossNetworks,
  lossTerms,
  nearestSize,
  parseTrainingConfig,
  type StepVariant,
  sequenceIds,
  type TokenizerRecipe,
  tokenizerStepGraph,
  tokenModelStepGraph,
  variantFeeds,
  variantTarget,
} from '@detailflow/train';
import { openModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';
import { type DeviceName, devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { expectGradient, type GradientSummary } from './gradient-summary';

// Training steps of the less usual options, computed by the official code: REPA, alignment and decoder-only finetuning (R), images of
// many sizes (S), drop-path (R's AR model). What is checked is what training runs: its graphs, terms and feeds in a learner.

const folder = (set: 'R' | 'S', half: 'tokenizer' | 'ar') =>
  inRepository(`tests/fixtures/golden/${set}/${half}`);

async function arraysOf(weights: Weights): Promise<Arrays> {
  const arrays: Arrays = new Map();
  for (const [name, weight] of weights) arrays.set(name, await readFloat32(weight));
  return arrays;
}

/** A state dict of a checkpoint, in memory. */
async function stateDictOf(place: string, key: string): Promise<Map<string, Weight>> {
  const tree = await openFolder(`${place}/checkpoints`);
  const [file] = await tree.list('');
  const opened = await openStateDicts(tree, file);
  const found = new Map<string, Weight>();
  for (const [name, weight] of opened.at([key]) as Weights) {
    const values = await readFloat32(weight);
    found.set(name, {
      name,
      dtype: 'f32',
      shape: weight.shape,
      read: async () => new Uint8Array(values.buffer),
    });
  }
  await opened.close();
  return found;
}

async function configOf(set: 'R' | 'S'): Promise<TokenizerConfig> {
  const opened = await openModel({ tokenizer: folder(set, 'tokenizer') });
  await opened.close();
  return opened.tokenizer.config;
}

const plain = parseTrainingConfig({ preset: 'tiny-32' }).tokenizer.recipe;
const recipeOf = (more: Partial<TokenizerRecipe>): TokenizerRecipe => ({
  ...{ microBatch: 2, learningRate: 1e-3, schedule: plain.schedule, optimiser: plain.optimiser },
  ...{ degradation: 0.2, correction: 1, pixelLoss: 'l2', quantiser: {}, ...more },
});

interface Run {
  readonly t: number;
  readonly n: number;
  readonly dec_res: number;
  readonly noise_idx: number | null;
  readonly losses: Readonly<Record<string, number>>;
  readonly grads: Readonly<Record<string, GradientSummary | null>>;
}

/** Runs a step as training does and compares losses and gradients. */
async function expectStep(
  backend: Backend,
  options: {
    readonly config: TokenizerConfig;
    readonly parameters: Arrays;
    readonly recipe: TokenizerRecipe;
    readonly networks: LossNetworks;
    readonly images: { readonly data: Float32Array; readonly shape: readonly number[] };
    readonly ranks: Int32Array;
    readonly run: Run;
    /** Whole gradients by name. */
    readonly gradients: ReadonlyMap<string, Float32Array>;
    readonly target?: Float32Array;
  },
): Promise<void> {
  const { config, recipe, run, images } = options;
  const [batch, , size] = images.shape;
  const map = createResolutionMap(resolutionSettings(config));
  const variant: StepVariant = {
    ...{ tokens: run.t, size: run.dec_res, noiseIndex: run.noise_idx },
    targetSize: run.t === run.n ? size : map.tokenToRes(run.t),
    image: { size, tokens: run.n },
  };
  const terms = lossTerms(config, recipe, options.networks);
  const isFrozen = frozenBy(recipe);
  const all = [...tokenizerParameters(config), ...terms.flatMap(({ specs }) => specs)];
  const learner = await Learner.create({
    backends: [backend],
    specs: all.filter(({ name }) => !isFrozen(name)),
    frozen: all.filter(({ name }) => isFrozen(name)),
    optimiser: recipe.optimiser,
    parameters: options.parameters,
  });
  const correction = run.noise_idx !== null;
  const graph = await learner.compile(
    tokenizerStepGraph({
      ...{
        config,
        microBatch: batch,
        correction,
        image: variant.image,
        quantiser: recipe.quantiser,
        isFrozen,
      },
      extraSpecs: terms.flatMap(({ specs }) => specs),
      hiddenLayer: recipe.repa?.layer,
      extraLosses: (context) => Object.fromEntries(terms.map((term) => [term.name, term.loss(context)])),
    }),
  );
  const target = variantTarget(images.data, images.shape, variant);
  if (options.target) {
    const row = target.subarray(0, 3 * size * size);
    const inside = row.filter((_, i) => i % size < run.dec_res && Math.floor(i / size) % size < run.dec_res);
    expectClose(inside, options.target);
  }
  const part = {
    place: 0,
    images: new Tensor('float32', images.data, images.shape),
    target: new Tensor('float32', target, images.shape),
  };
  const feeds: Record<string, Tensor> = {
    ...variantFeeds(config, variant),
    images: part.images,
    target: part.target,
  };
  if (correction) feeds.ranks = new Tensor('int32', options.ranks, [batch, run.n]);
  const moment = { seed: 0, step: 0, canvas: size, size: run.dec_res, isCorrected: correction };
  for (const term of terms) Object.assign(feeds, (await term.feeds(moment, part)) as Tensors);
  const [results] = await learner.accumulate(graph, [feeds]);

  const value = (name: string) => (results[name]?.data[0] as number | undefined) ?? 0;
  const { mse, vq, commit, entropy, projection, total } = run.losses;
  const found = ['reconstruction', 'vq', 'commit', 'entropy', 'loss'].map(value);
  expectClose(found, [mse, vq, commit, entropy, total]);
  expectClose([value('repa') + value('alignment')], [projection]);

  const arrays = await learner.read(Buffer.gradient);
  for (const [name, summary] of Object.entries(run.grads)) {
    const gradient = arrays.get(name);
    if (summary) expectGradient(name, gradient as Float32Array, summary);
    else if (gradient)
      expect(
        gradient.every((x) => x === 0),
        name,
      ).toBe(true);
  }
  for (const [name, whole] of options.gradients) expectClose(arrays.get(name) as Float32Array, whole);
  await learner.dispose();
}

const gradientsOf = (values: ReturnType<typeof golden>, start: string): Map<string, Float32Array> =>
  new Map(
    Object.keys(values)
      .filter((key) => key.startsWith(start))
      .map((key) => [key.slice(start.length), floats(values[key])]),
  );

/** ONNX Runtime runs all steps; the slow interpreter and the software adapter of WebGPU those in which most comes together. */
const few = (device: DeviceName, names: readonly string[], elsewhere: readonly string[]) =>
  device === 'cpu' ? names : device === 'webgpu' ? elsewhere.slice(0, 1) : elsewhere;

describe('REPA, alignment and decoder-only finetuning', async () => {
  const values = golden('R/golden_training.safetensors');
  const { train } = goldenJson('R/golden_training.json') as { train: Record<string, Run> };
  const vision = goldenJson('R/tokenizer/siglip2_vision.json').repa;
  const config = await configOf('R');
  const weights = await stateDictOf(folder('R', 'tokenizer'), 'model');
  const parameters = await arraysOf(weights);
  for (const [name, data] of alignmentByFormula(config.codebookDim, 40)) parameters.set(name, data);
  const images = { data: floats(values.images), shape: values.images.shape };

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let network: SiglipNetwork;
    beforeAll(async () => {
      backend = await openDevice(device);
      const tower = siglipWeights(weights);
      network = new SiglipNetwork({ config: siglipConfig(vision, tower), weights: tower, backend });
    });
    afterAll(() => backend.close());

    test('features of patches', async () => {
      const found = await network.features(new Tensor('float32', images.data, images.shape));
      expect(found.dims).toEqual(values['repa.features'].shape);
      expectClose(found.data, floats(values['repa.features']));
    });

    test.each(
      few(device, Object.keys(train), ['noise_degraded', 'global.blurred', 'finetune_decoder.noise16']),
    )('%s', async (name) => {
      const hasRepa = !name.startsWith('global_only.');
      const recipe = recipeOf({
        finetuneDecoder: name.includes('finetune_decoder.'),
        ...(hasRepa && { repa: { weight: 0.5, layer: 1, width: 56 } }),
        ...(/^global/.test(name) && { alignment: { weight: 0.7 } }),
      });
      const alignment = { width: network.width, features: (x: Tensor) => network.means(x) };
      await expectStep(backend, {
        ...{ config, parameters, recipe, images, run: train[name] },
        networks: { repa: network, alignment },
        ranks: values.ranks.data as Int32Array,
        gradients: gradientsOf(values, `train.${name}.grad.`),
      });
    });
  });
});

describe('images of many sizes', async () => {
  const values = golden('S/golden_training.safetensors');
  const inference = golden('S/golden_inference.safetensors');
  const { train } = goldenJson('S/golden_training.json') as { train: Record<string, Run> };
  const config = await configOf('S');
  const parameters = await arraysOf(await stateDictOf(folder('S', 'tokenizer'), 'model'));

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await openDevice(device);
    });
    afterAll(() => backend.close());

    test.each(few(device, Object.keys(train), ['s64.degraded']))('%s', async (name) => {
      const [size] = name.split('.');
      const images = inference[`dynamic.${size}.images`] ?? inference['dynamic.images'];
      const target = values[`dynamic.${size}.train.degraded.target.row0`];
      await expectStep(backend, {
        ...{ config, parameters, recipe: recipeOf({}), run: train[name], networks: {} },
        images: { data: floats(images), shape: images.shape },
        ranks: inference[`dynamic.${size}.ranks`].data as Int32Array,
        gradients: gradientsOf(values, `dynamic.${size}.train.${name.split('.')[1]}.grad.`),
        ...(name.endsWith('degraded') && { target: floats(target) }),
      });
    });
  });
});

test('sizes that are drawn, images that stay, and degradations are those of the official tables', () => {
  const tables = goldenJson('tables-512.json');
  let checked = 0;
  for (const table of Object.values<Record<string, never>>(tables)) {
    const settings: Record<string, number> = table.settings;
    if (!table.size_draws) continue;
    const map = createResolutionMap({
      ...{
        tokens: settings.num_latent_tokens,
        groupSize: settings.group_size,
        causalNum: settings.causal_num,
      },
      ...{ maxImageSize: settings.max_image_size, power: settings.degradation_power },
      ...{ encoderPatch: settings.patch, decoderPatch: settings.patch },
    });
    const bounds = { minSize: settings.min_image_size, maxSize: settings.dynamic_max_image_size };
    for (const [first, last, size] of table.size_draws as [number, number, number | null][]) {
      for (let drawn = first; drawn <= last; drawn++)
        expect(nearestSize(map, drawn, bounds)).toBe(size ?? undefined);
    }
    for (const [size, kept] of Object.entries<number>(table.kept_of_a_batch_of_10))
      expect(keptImages(10, Number(size), { adjustBatch: true })).toBe(kept);
    const draws = Object.entries<{ n: number; draws: number[][] | null }>(table.degradation_draws);
    for (const [size, { n, draws: all }] of draws) {
      expect(map.decResToBestToken.get(Number(size))).toBe(n);
      if (!all) continue;
      expect(map.degradationLimit(n)).toBe(all.at(-1)?.[1]);
      for (const [first, last, tokens, targetRes, decRes] of all) {
        for (let draw = first; draw <= last; draw++)
          expect(map.degradation(draw)).toEqual({ tokens, targetRes, decRes });
      }
    }
    checked++;
  }
  expect(checked).toBeGreaterThanOrEqual(3);
});

describe('an AR step with drop-path', async () => {
  const values = golden('R/golden_ar_training.safetensors');
  const { ar } = goldenJson('R/golden_training.json');
  const config = officialTokenModelConfig(goldenJson('R/ar/config.json'));
  const parameters = await arraysOf(await stateDictOf(folder('R', 'ar'), 'ema'));

  test.each(devices)('on the %s backend', async (device) => {
    const backend = await openDevice(device);
    const rows = values['train.labels'].shape[0];
    const specs = [...parameters.keys()];
    const options = { config, microBatch: rows, dropPath: 0.3 };
    const learner = await Learner.create({
      ...{ backends: [backend], specs: tokenModelParameters(config), parameters },
      optimiser: plain.optimiser,
    });
    const codes = values['train.codes'].data as Int32Array;
    const ids = sequenceIds(config, { labels: values['train.labels'].data, rows: codes });
    const feeds: Record<string, Tensor> = {
      ids: new Tensor('int32', ids, [rows, config.tokens]),
      targets: new Tensor('int32', codes, [rows, config.tokens]),
    };
    const keep = values['train.keep'].data as Uint8Array; // [layers, 2, rows]
    for (const [i, name] of dropPathMasks(config).entries())
      feeds[name] = new Tensor('bool', keep.slice((i + 2) * rows, (i + 3) * rows), [rows, 1, 1]);
    const [{ loss }] = await learner.accumulate(await learner.compile(tokenModelStepGraph(options)), [feeds]);
    expectClose(loss.data as Float32Array, floats(values['train.loss']));
    const found = await learner.read(Buffer.gradient);
    const summaries = Object.entries<GradientSummary>(ar.train.grads);
    expect(summaries.map(([name]) => name).sort()).toEqual(specs.filter((name) => found.has(name)).sort());
    for (const [name, summary] of summaries) expectGradient(name, found.get(name) as Float32Array, summary);
    for (const [name, whole] of gradientsOf(values, 'train.grad.'))
      expectClose(found.get(name) as Float32Array, whole);
    await learner.dispose();
    await backend.close();
  });
});

/** The weights of the alignment's MLP, which fill no file: see the README of the fixtures. */
function alignmentByFormula(codebookDim: number, width: number): Map<string, Float32Array> {
  const widths = [codebookDim, 1024, 1024, width];
  const u = (i: number, j: number, l: number) =>
    ((31 * i * i + 13 * i * j + 17 * j * j + 7 * i + 3 * j + 101 * l) % 997) / 498 - 1;
  const arrays = new Map<string, Float32Array>();
  for (const k of [0, 1, 2]) {
    const [columns, rows, layer] = [widths[k], widths[k + 1], 2 * k];
    const weight = Float32Array.from(
      { length: rows * columns },
      (_, at) => (1.5 * u(Math.floor(at / columns), at % columns, layer)) / Math.sqrt(columns),
    );
    arrays.set(`global_token_proj.${layer}.weight`, weight);
    arrays.set(
      `global_token_proj.${layer}.bias`,
      Float32Array.from({ length: rows }, (_, i) => 0.1 * u(i, 0, layer + 1)),
    );
  }
  return arrays;
}
