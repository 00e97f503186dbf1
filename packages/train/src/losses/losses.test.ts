import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import {
  type Backend,
  conv2d,
  maximum,
  mean,
  mul,
  readFloat32,
  reshape,
  sum,
  Tensor,
  type Tensors,
  trace,
  type Weight,
  weightFromArray,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { createReferenceBackend } from '@detailflow/core/reference';
import { imageValues, shapesDataset } from '@detailflow/data';
import {
  classifierParameters,
  lpips,
  lpipsParameters,
  networkWeights,
  vggParameters,
} from '@detailflow/features';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { changesByFormula, pixelWeightsOf } from '../../../../tests/formula-changes';
import { numbers } from '../../../../tests/numbers-by-formula';
import { Learner } from '../learner';
import { Buffer } from '../optimiser';
import { TokenizerTrainer, type TokenizerTrainerOptions } from '../tokenizer-trainer';
import { parseTrainingConfig } from '../training-config';
import {
  adaptiveWeight,
  discriminatorStepGraph,
  generatorLoss,
  judgedWeights,
  judgementSize,
} from './adversarial';
import { alignmentLoss, alignmentSpecs } from './alignment';
import { drawAugmentation, strongAugmentation, weakAugmentation } from './augmentation';
import { type Discriminator, discriminatorSpecs, patchGan } from './discriminator';
import { classifierNetwork, lpipsNetwork, perceptualFeeds, perceptualLoss } from './perceptual';

interface Case {
  readonly side: number;
  readonly loss: number;
  readonly real: number;
  readonly fake: number;
  readonly gradient: Record<string, number>;
  readonly generator: number;
  readonly slope: number;
  readonly slopeCorner: number[];
}

/** By torch: tools/reference/adversarial.py. */
const reference: {
  recipe: Record<'weight' | 'lecam' | 'consistency', number>;
  ema: number[];
  cases: Case[];
} = JSON.parse(readFileSync(new URL('../../../../tests/fixtures/adversarial.json', import.meta.url), 'utf8'));
const CANVAS = 32;
const BATCH = 2;

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

/** The changes of the reference script, as they are fed. */
const changes = (name: string, images: number, side: number, first = 0): Tensors =>
  changesByFormula(name, { images, side, first, canvas: CANVAS });

const scalar = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
const norm = (values: Float32Array) => Math.sqrt(values.reduce((total, x) => total + x * x, 0));
const dims = [BATCH, 3, CANVAS, CANVAS];
const images = (name: string) => new Tensor('float32', numbers(name, BATCH * 3 * CANVAS ** 2), dims);

const model = patchGan({ width: 4, layers: 2 });
const modelParameters = new Map(
  discriminatorSpecs(model).map(({ name, shape }) => {
    const key = name.replace('discriminator.', '');
    const values = numbers(
      key,
      shape.reduce((a, b) => a * b, 1),
    ).map((x) => 0.4 * x);
    return [name, key.endsWith('norm.weight') ? values.map((x) => 1 + x) : values];
  }),
);

test.each(reference.cases)(
  'discriminator and generator as torch computes them, $side pixels',
  async (found) => {
    const { side } = found;
    const recipe = { ...reference.recipe, start: 0, adaptive: false };
    const group = { specs: discriminatorSpecs(model), optimiser: { betas: [0, 0] as const, epsilon: 1 } };
    const learner = await Learner.create({ backends: [backend], ...group, parameters: modelParameters });
    const graph = await learner.compile(
      discriminatorStepGraph({ model, recipe, images: BATCH, size: CANVAS }),
    );
    const [height, width] = judgementSize(model, CANVAS);
    const judged = new Tensor('float32', judgedWeights([height, width], { canvas: CANVAS, size: side }), [
      1,
      1,
      height,
      width,
    ]);
    const shared = { judged, pixelWeights: pixelWeightsOf(side, CANVAS) };
    const [{ loss, judgedReal, judgedFake }] = await learner.accumulate(graph, [
      {
        ...{ ...shared, real: images('real'), fake: images('fake') },
        ...changes('weak', 2 * BATCH, side),
        ...changes('strong', 2 * BATCH, side),
        ...{ emaReal: scalar(reference.ema[0]), emaFake: scalar(reference.ema[1]) },
      },
    ]);
    expect(loss.data[0]).toBeCloseTo(found.loss, 4);
    expect(judgedReal.data[0]).toBeCloseTo(found.real, 5);
    expect(judgedFake.data[0]).toBeCloseTo(found.fake, 5);
    for (const [name, values] of await learner.read(Buffer.gradient)) {
      const expected = found.gradient[name.replace('discriminator.', '')];
      expect(norm(values) / expected, name).toBeCloseTo(1, 4);
    }

    const generator = await learner.compile(
      trace((g) => {
        const pixels = g.input('pixels', 'f32', dims);
        const weights = g.input('pixelWeights', 'f32', [1, 1, CANVAS, CANVAS]);
        const term = generatorLoss(g, model, { pixels, pixelWeights: weights });
        const [slope] = gradients(term, [pixels]);
        return { term, slope: slope as NonNullable<typeof slope> };
      }),
    );
    const { term, slope } = await learner.run(generator, {
      ...{ ...shared, pixels: images('fake') },
      ...changes('weak', BATCH, side, BATCH),
    });
    expect(term.data[0]).toBeCloseTo(found.generator, 5);
    const slopes = slope.data as Float32Array;
    expect(norm(slopes) / found.slope).toBeCloseTo(1, 4);
    for (const [i, expected] of found.slopeCorner.entries()) expect(slopes[i]).toBeCloseTo(expected, 6);
    await learner.dispose();
  },
);

test('changes that are drawn: where images lie, how far they move, how large the holes are', () => {
  const [size, canvas, count] = [24, 32, 400];
  const draw = (strength: typeof weakAugmentation, place: number) =>
    drawAugmentation('a', { seed: 5, step: 9, place, images: count, canvas, size, strength });
  const strong = draw(strongAugmentation, 0);
  const holes = new Set<number>();
  const shifts = new Set<number>();
  for (let i = 0; i < count; i++) {
    const part = (name: string) =>
      strong[`a.${name}`].data.slice(i * canvas ** 2, (i + 1) * canvas ** 2) as Float32Array;
    const kept = part('kept');
    holes.add(kept.filter((x) => x === 0).length);
    for (const [at, x] of kept.entries()) {
      if (x === 0) expect(Math.max(at % canvas, Math.floor(at / canvas))).toBeLessThan(size);
    }
    const rows = part('rows');
    const moved = [...rows].flatMap((x, at) => (x === 1 ? [Math.floor(at / canvas) - (at % canvas)] : []));
    expect(new Set(moved).size).toBe(1);
    expect(moved.length).toBe(size - Math.abs(moved[0]));
    shifts.add(moved[0]);
  }
  expect(Math.max(...holes)).toBe(12 * 12); // int(.5 * 24 + .5)
  expect([...shifts].sort((a, b) => a - b)).toEqual([-3, -2, -1, 0, 1, 2, 3]); // int(.125 * 24 + .5)
  const spread = (name: string) => {
    const values = [...(strong[`a.${name}`].data as Float32Array)];
    return [Math.min(...values), Math.max(...values)];
  };
  for (const [name, low, high] of [
    ['brightness', -0.5, 0.5],
    ['saturation', 0, 2],
    ['contrast', 0.5, 1.5],
  ] as const) {
    expect(spread(name)[0]).toBeGreaterThanOrEqual(low);
    expect(spread(name)[0]).toBeLessThan(low + 0.05);
    expect(spread(name)[1]).toBeLessThanOrEqual(high);
    expect(spread(name)[1]).toBeGreaterThan(high - 0.05);
  }
  // The weak ones happen to half of the batches, each kind by itself.
  const happened = Array.from({ length: 300 }, (_, place) => {
    const weak = drawAugmentation('a', {
      ...{ seed: 5, step: 9, place, images: 3, canvas, size, strength: weakAugmentation },
    });
    return (weak['a.saturation'].data as Float32Array).some((x) => x !== 1);
  });
  const share = happened.filter(Boolean).length / 300;
  expect(share).toBeGreaterThan(0.42);
  expect(share).toBeLessThan(0.58);
});

test('the adaptive weight is the ratio of gradients in the last layer, and has none itself', async () => {
  const executable = await createReferenceBackend().compile(
    trace((g) => {
      const x = g.input('x', 'f32', [3]);
      const [a, b] = [sum(mul(x, 6), [0]), sum(mul(mul(x, x), 0.5), [0])];
      const factor = adaptiveWeight(a, b, x);
      const [slope] = gradients(mul(b, factor), [x]);
      return { factor, slope: slope as NonNullable<typeof slope> };
    }),
    new Map(),
  );
  const { factor, slope } = await executable.run({ x: new Tensor('float32', Float32Array.of(1, 2, 2), [3]) });
  const expected = (6 * Math.sqrt(3)) / (3 + 1e-4);
  expect(factor.data[0]).toBeCloseTo(expected, 4);
  expect([...(slope.data as Float32Array)].map((s) => s / expected)).toEqual([
    expect.closeTo(1, 5),
    expect.closeTo(2, 5),
    expect.closeTo(2, 5),
  ]);
});

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
const { tokenizer } = parseTrainingConfig({
  preset: 'tiny-32',
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: 40, batch: 4, microBatch: 2, warmup: 2, degradation: 0.6, correction: 0.5 },
  },
  tokenModel: { model: { dim: 8, heads: 2 } },
});

async function batch(): Promise<Float32Array> {
  const size = 16;
  const shapes = shapesDataset({ images: 4, size });
  const values = new Float32Array(4 * 3 * size ** 2);
  for (let i = 0; i < 4; i++) {
    imageValues(await shapes.image(i), size, values.subarray(i * 3 * size ** 2, (i + 1) * 3 * size ** 2));
  }
  return values;
}

const trainer = (
  over: Partial<TokenizerTrainerOptions['recipe']>,
  networks: TokenizerTrainerOptions['networks'],
) =>
  TokenizerTrainer.create({
    config: tokenizer.model,
    recipe: { ...tokenizer.recipe, ...over },
    backends: [backend],
    seed: 3,
    networks,
  });

const adversarial = { start: 2, weight: 0.2, adaptive: true, lecam: 0.001, consistency: 4 };

test('a discriminator joins at its step, learns to tell images apart, and is resumed to the bit', async () => {
  const values = await batch();
  const networks = { discriminator: patchGan({ width: 8, layers: 2 }) };
  const eager = {
    adversarial: { ...adversarial, start: 6, weight: 1, consistency: 0, adaptive: false },
    correction: 0.3,
  };
  const one = await trainer(eager, networks);
  const other = await trainer(eager, networks);
  const reports = [];
  for (let step = 0; step < 40; step++) {
    if (step === 11) {
      const { tensors } = await one.snapshot();
      await other.restore({ step, tensors });
    }
    const report = await one.train(values);
    reports.push(report);
    if (step >= 11) expect(await other.train(values)).toEqual(report);
  }
  expect(reports[1].adversary).toBeUndefined();
  expect(reports[1].extra).toBeUndefined();
  expect(one.graphs).toBe(4);
  const last = reports.slice(-6);
  const average = (of: (report: (typeof last)[number]) => number | undefined) =>
    last.reduce((total, report) => total + (of(report) as number) / last.length, 0);
  expect(average((r) => r.adversary?.judgedReal)).toBeGreaterThan(
    average((r) => r.adversary?.judgedFake) + 0.01,
  );
  expect(last.every(({ extra }) => Number.isFinite(extra?.adversarial))).toBe(true);
  await one.dispose();
  await other.dispose();
});

test('heads on the features of a network that is given', async () => {
  const specs = [{ name: 'filters', shape: [4, 3, 4, 4] }];
  const filters = numbers('filters', 4 * 3 * 16);
  const discriminator: Discriminator = {
    specs: [{ name: 'head.weight', shape: [1, 4, 1, 1] }],
    fixed: { specs, weights: new Map([['filters', weightFromArray('filters', specs[0].shape, filters)]]) },
    logits: (p, x) => mean(mul(maximum(conv2d(x, p('filters'), { stride: 4 }), 0), p('head.weight')), 1),
  };
  const one = await trainer({ adversarial: { ...adversarial, start: 0 } }, { discriminator });
  const { adversary, extra } = await one.train(await batch());
  expect(Number.isFinite(adversary?.discriminator)).toBe(true);
  expect(extra?.adversarial).not.toBe(0);
  expect((await one.parameters()).has('filters')).toBe(false);
  await one.dispose();
});

test('alignment is minus the mean cosine of what an MLP makes of the first token', async () => {
  const [dim, width] = [4, 5];
  const specs = alignmentSpecs(dim, width);
  const parameters = new Map(
    specs.map(({ name, shape }) => {
      const values = numbers(
        name,
        shape.reduce((a, b) => a * b, 1),
      );
      return [
        name,
        weightFromArray(
          name,
          shape,
          values.map((x) => x / Math.sqrt(shape.at(-1) as number)),
        ),
      ];
    }),
  );
  const executable = await backend.compile(
    trace((g) => {
      const quantised = g.input('quantised', 'f32', [BATCH, 3, dim]);
      const p = networkWeights(g, specs);
      return { loss: alignmentLoss(g, p, quantised, { width, weight: 2 }) };
    }),
    parameters,
  );
  const quantised = numbers('quantised', BATCH * 3 * dim);
  const target = numbers('target', BATCH * width);
  const { loss } = await executable.run({
    quantised: new Tensor('float32', quantised, [BATCH, 3, dim]),
    alignmentTarget: new Tensor('float32', target, [BATCH, width]),
  });
  await executable.dispose();

  const read = async (name: string) => readFloat32(parameters.get(name) as Weight);
  let total = 0;
  for (let i = 0; i < BATCH; i++) {
    let x = [...quantised.slice(i * 3 * dim, i * 3 * dim + dim)];
    for (const layer of [0, 2, 4]) {
      const weight = await read(`global_token_proj.${layer}.weight`);
      const bias = await read(`global_token_proj.${layer}.bias`);
      x = [...bias].map((b, o) => b + x.reduce((s, value, k) => s + value * weight[o * x.length + k], 0));
      if (layer < 4) x = x.map((value) => value / (1 + Math.exp(-value)));
    }
    const y = [...target.slice(i * width, (i + 1) * width)];
    const dot = x.reduce((s, value, k) => s + value * y[k], 0);
    total -= (2 / BATCH) * (dot / (Math.hypot(...x) * Math.hypot(...y)));
  }
  expect(loss.data[0]).toBeCloseTo(total, 5);
});

test('the first token learns to tell features of another network', async () => {
  const width = 5;
  const alignment = {
    width,
    features: async ({ dims: [count], data }: Tensor) => {
      const each = data.length / count;
      const rows = Float32Array.from({ length: count * width }, (_, i) => {
        const image = Math.floor(i / width) * each;
        return [(data as Float32Array)[image + 100], -1, 1, (data as Float32Array)[image + 300], -0.5][
          i % width
        ];
      });
      return new Tensor('float32', rows, [count, width]);
    },
  };
  const one = await trainer({ alignment: { weight: 1 } }, { alignment });
  const values = await batch();
  const first = await one.train(values);
  let last = first;
  for (let step = 1; step < 30; step++) last = await one.train(values);
  expect(first.extra?.alignment).toBeGreaterThan(-0.7);
  expect(last.extra?.alignment).toBeLessThan(-0.85);
  const { tensors } = await one.snapshot();
  expect(tensors['param.global_token_proj.4.weight'].dims).toEqual([width, 1024]);
  await one.dispose();
});

test('the perceptual loss is the mean LPIPS of the images alone, times a weight that grows', async () => {
  const weight = ({ name, shape }: { name: string; shape: readonly number[] }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const factor = shape.length === 1 ? 0.1 : Math.sqrt(6 / (count / shape[0]));
    const values = numbers(name, count).map((x) => x * factor);
    return [
      name,
      weightFromArray(name, shape, name.startsWith('lin') ? values.map(Math.abs) : values),
    ] as const;
  };
  const network = lpipsNetwork(new Map(vggParameters().map(weight)), new Map(lpipsParameters().map(weight)));
  const side = 16;
  const [a, b] = [images('a'), images('b')];
  const cut = (x: Tensor) => {
    const out = new Float32Array(BATCH * 3 * side ** 2);
    for (const i of out.keys()) {
      const [plane, at] = [Math.floor(i / side ** 2), i % side ** 2];
      out[i] = (x.data as Float32Array)[plane * CANVAS ** 2 + Math.floor(at / side) * CANVAS + (at % side)];
    }
    return new Tensor('float32', out, [BATCH, 3, side, side]);
  };
  const cutDims = [BATCH, 3, side, side];
  const specs = [...vggParameters(), ...lpipsParameters()];
  const plain = await backend.compile(
    trace((g) => {
      const pair = [g.input('a', 'f32', cutDims), g.input('b', 'f32', cutDims)];
      return { mean: mean(reshape(lpips(networkWeights(g, specs), pair[0], pair[1]), [1, BATCH]), 1) };
    }),
    network.weights,
  );
  const masked = await backend.compile(
    trace((g) => ({
      loss: perceptualLoss(g, network, g.input('a', 'f32', dims), g.input('b', 'f32', dims)),
    })),
    network.weights,
  );
  const { mean: expected } = await plain.run({ a: cut(a), b: cut(b) });
  const feeds = perceptualFeeds(
    { weight: 2, warmup: 100 },
    { step: 25, canvas: CANVAS, size: side, levels: 5 },
  );
  const { loss } = await masked.run({ a, b, ...feeds });
  expect(loss.data[0]).toBeCloseTo(0.5 * (expected.data[0] as number), 5);
  await plain.dispose();
  await masked.dispose();

  const one = await trainer(
    { perceptual: { network: 'vgg', weight: 1, warmup: 2 } },
    { perceptual: network },
  );
  const values = await batch();
  expect((await one.train(values)).extra?.perceptual).toBe(0);
  expect((await one.train(values)).extra?.perceptual).toBeGreaterThan(0);
  await one.dispose();
});

test('the perceptual loss by a classifier: zero for equal images, those of the corner alone, and it teaches', async () => {
  const config = { imageSize: CANVAS, classes: 3, widths: [4, 6, 8], features: 5 } as const;
  const specs = classifierParameters(config);
  const values = specs.map(({ name, shape }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const factor = shape.length === 1 ? 0.1 : Math.sqrt(6 / (count / shape[0]));
    return [
      name,
      weightFromArray(
        name,
        shape,
        numbers(name, count).map((x) => x * factor),
      ),
    ] as const;
  });
  const network = classifierNetwork(config, new Map(values));
  expect([...network.weights.keys()].every((name) => name.startsWith('perceptual.stages.'))).toBe(true);
  const graph = await backend.compile(
    trace((g) => ({
      loss: perceptualLoss(g, network, g.input('a', 'f32', dims), g.input('b', 'f32', dims)),
    })),
    network.weights,
  );
  const [a, b] = [images('a'), images('b')];
  const feeds = (size: number) =>
    perceptualFeeds({ weight: 1, warmup: 0 }, { step: 0, canvas: CANVAS, size, levels: network.levels });
  const between = async (x: Tensor, y: Tensor, size: number) =>
    (await graph.run({ a: x, b: y, ...feeds(size) })).loss.data[0] as number;
  expect(await between(a, a, CANVAS)).toBe(0);
  const whole = await between(a, b, CANVAS);
  expect(whole).toBeGreaterThan(0.1);
  expect(whole).toBeLessThan(2);
  // what lies outside the corner does not count, and inside everything does
  const side = 16;
  const changed = (inside: boolean) =>
    new Tensor(
      'float32',
      (b.data as Float32Array).map((value, i) => {
        const [row, column] = [Math.floor(i / CANVAS) % CANVAS, i % CANVAS];
        return (row < side && column < side) === inside ? value : -value;
      }),
      b.dims,
    );
  const corner = await between(a, b, side);
  expect(await between(a, changed(true), side)).toBeCloseTo(corner, 6);
  expect(await between(a, changed(false), side)).not.toBeCloseTo(corner, 3);
  await graph.dispose();

  const one = await trainer(
    { perceptual: { network: 'classifier', weight: 1, warmup: 0 } },
    { perceptual: network },
  );
  const shown = await batch();
  const seen: number[] = [];
  for (let step = 0; step < 12; step++) seen.push((await one.train(shown)).extra?.perceptual as number);
  expect(seen[11]).toBeLessThan(0.96 * seen[0]);
  await one.dispose();
});

test('a loss without its network is refused', async () => {
  for (const [recipe, message] of [
    [{ perceptual: { network: 'classifier', weight: 1, warmup: 0 } }, 'needs its network'],
    [{ adversarial }, 'needs a discriminator'],
    [{ alignment: { weight: 1 } }, 'needs a network whose features'],
  ] as const) {
    await expect(trainer(recipe, {})).rejects.toThrow(message);
  }
});
