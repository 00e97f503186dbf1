import { createNodeBackend } from '@detailflow/backend-node';
import { siglipVisionParameters } from '@detailflow/blocks';
import { type Backend, resizeImages, Tensor, trace, weightFromArray } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { siglipSize } from '@detailflow/features';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pixelWeightsOf } from '../../../../tests/formula-changes';
import { numbers } from '../../../../tests/numbers-by-formula';
import { smallSiglip } from '../../../../tests/siglip-folder';
import { smallVit, vitEntries } from '../../../../tests/vit-file';
import { Learner } from '../learner';
import type { TokenizerTrainer } from '../tokenizer-trainer';
import { generatorLoss } from './adversarial';
import { Adversary } from './adversary';
import {
  blurGan,
  type Discriminator,
  dinoGan,
  discriminatorSpecs,
  patchGan,
  styleGan,
} from './discriminator';
import { perceptualFeeds, perceptualLoss, siglipNetwork, vitNetwork } from './perceptual';
import { batch, tinyTrainer } from './test-trainer';

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

const weights = new Map(
  vitEntries('vit.').map(({ name, shape, data }) => [name, weightFromArray(name, shape, data)]),
);
const vit = { config: smallVit, weights };
const discriminators: Record<string, Discriminator> = {
  dino: dinoGan(vit),
  stylegan: styleGan({ size: 16, width: 1 }),
  'stylegan of other images': styleGan({ size: 8, width: 1 }),
  maskbit: blurGan({ width: 4, layers: 2 }),
};
const recipe = { start: 1, weight: 0.5, adaptive: false, lecam: 0.001, consistency: 1 };
const optimiser = { betas: [0, 0] as const, epsilon: 1 };

async function expectSame(one: TokenizerTrainer, other: TokenizerTrainer): Promise<void> {
  const [a, b] = [await one.snapshot(), await other.snapshot()];
  expect(Object.keys(a.tensors)).toEqual(Object.keys(b.tensors));
  for (const [name, { data }] of Object.entries(a.tensors)) expect(data, name).toEqual(b.tensors[name].data);
}

describe.each(Object.entries(discriminators))('%s', (_name, discriminator) => {
  test('joins at its step, learns, and is resumed to the bit', async () => {
    const values = await batch();
    const over = { adversarial: recipe, correction: 0.4 };
    const one = await tinyTrainer(backend, over, { discriminator });
    const other = await tinyTrainer(backend, over, { discriminator });
    const { tensors: begun } = await one.snapshot();
    for (let step = 0; step < 6; step++) {
      if (step === 3) await other.restore(await one.snapshot());
      const report = await one.train(values);
      expect(report.adversary === undefined).toBe(step === 0);
      if (step > 0) expect(Number.isFinite(report.extra?.adversarial)).toBe(true);
      if (step >= 3) expect(await other.train(values)).toEqual(report);
    }
    await expectSame(one, other);
    const { tensors: after } = await one.snapshot();
    for (const { name } of discriminator.specs) {
      const key = `param.discriminator.${name}`;
      const moved = (after[key].data as Float32Array).some((x, i) => x !== begun[key].data[i]);
      // The output's bias moves both judgements alike, and hinge does not feel that while none is past its edge.
      if (!name.endsWith('bias')) expect(moved, name).toBe(true);
    }
    await one.dispose();
    await other.dispose();
  });

  test('finite differences of the term of the generator, through changes and resizing', async () => {
    const [canvas, size, images] = [32, 16, 2];
    const adversary = new Adversary({ model: discriminator, recipe, optimiser, seed: 4 });
    // Drawn ones of .02 hardly have a slope at so few channels.
    const larger = (name: string, values: Float32Array) =>
      discriminator.initial || name.endsWith('norm.weight') ? values : values.map((x) => 8 * x);
    const learner = await Learner.create({
      ...{ backends: [backend], ...adversary.group },
      parameters: new Map(
        [...adversary.initialParameters()].map(([name, values]) => [name, larger(name, values)]),
      ),
    });
    const dims = [images, 3, canvas, canvas];
    const graph = await learner.compile(
      trace((g) => {
        const pixels = g.input('pixels', 'f32', dims);
        const pixelWeights = g.input('pixelWeights', 'f32', [1, 1, canvas, canvas]);
        const term = generatorLoss(g, discriminator, { pixels, pixelWeights }, 'non-saturating');
        const [slope] = gradients(term, [pixels]);
        return { term, slope: slope as NonNullable<typeof slope> };
      }),
      { weights: discriminator.fixed?.weights },
    );
    const feeds = {
      ...adversary.generatorFeeds({ step: 3, size, canvas }, { place: 0, images }),
      pixelWeights: pixelWeightsOf(size, canvas),
    };
    const at = numbers('fake', images * 3 * canvas ** 2);
    const of = (data: Float32Array) =>
      learner.run(graph, { ...feeds, pixels: new Tensor('float32', data, dims) });
    const slope = (await of(at)).slope.data as Float32Array;
    const norm = Math.hypot(...slope);
    const along = async (distance: number) => {
      const { term } = await of(at.map((x, i) => x + (distance * slope[i]) / norm));
      return term.data[0] as number;
    };
    const step = 0.02;
    const found = ((await along(step)) - (await along(-step))) / (2 * step);
    expect(norm).toBeGreaterThan(1e-3);
    expect(Math.abs(found / norm - 1)).toBeLessThan(0.02);
    await learner.dispose();
  });

  test('of an image in the corner of a canvas the image alone counts', async () => {
    const [canvas, size, images] = [32, 16, 2];
    if (discriminator.side === undefined) return; // judges patches of the canvas, weighed by where they lie
    const adversary = new Adversary({
      ...{ model: discriminator, optimiser, seed: 4 },
      recipe: { ...recipe, consistency: 0, augment: false },
    });
    const learnerOf = () =>
      Learner.create({
        ...{ backends: [backend], ...adversary.group },
        parameters: adversary.initialParameters(),
      });
    const cut = ['real', 'fake'].map((name) => numbers(name, images * 3 * size ** 2));
    const laid = (data: Float32Array) => {
      const out = numbers('outside', images * 3 * canvas ** 2);
      for (let row = 0; row < images * 3 * size; row++) {
        const at = (Math.floor(row / size) * canvas + (row % size)) * canvas;
        out.set(data.subarray(row * size, (row + 1) * size), at);
      }
      return new Tensor('float32', out, [images, 3, canvas, canvas]);
    };
    const side = discriminator.side;
    const alone = (data: Float32Array) => {
      const resized = resizeImages(
        data,
        [images, 3, size, size],
        { height: side, width: side },
        'degradation',
      );
      return new Tensor('float32', resized, [images, 3, side, side]);
    };
    const found = [];
    for (const [make, moment] of [
      [laid, { step: 3, size, canvas }],
      [alone, { step: 3, size: side, canvas: side }],
    ] as const) {
      const learner = await learnerOf();
      const [real, fake] = cut.map(make);
      const pixelWeights = pixelWeightsOf(moment.size, moment.canvas);
      found.push(await adversary.accumulate(learner, [{ real, fake }], { ...moment, pixelWeights }));
      await learner.dispose();
    }
    for (const [name, value] of Object.entries(found[0]))
      expect(value).toBeCloseTo(found[1][name as keyof (typeof found)[1]], 4);
  });
});

test('singular vectors move once a step, whatever the micro-batches and replicas, and only when the step is made', async () => {
  const model = discriminators.dino;
  const names = model.spectral as readonly string[];
  const make = () => new Adversary({ model, recipe: { ...recipe, augment: false }, optimiser, seed: 4 });
  const parameters = make().initialParameters();
  const moment = { step: 3, size: 16, canvas: 16, pixelWeights: pixelWeightsOf(16, 16) };
  const pairs = [0, 1].map((i) => {
    const [real, fake] = ['real', 'fake'].map(
      (name) => new Tensor('float32', numbers(`${name}${i}`, 2 * 3 * 256), [2, 3, 16, 16]),
    );
    return { real, fake };
  });
  const second = await createNodeBackend({ threads: 1 });
  const vectorsOf = (adversary: Adversary) => {
    const tensors = adversary.snapshot();
    return names.map((name) => tensors[`adversary.singular.${name}`].data as Float32Array);
  };
  const runs = [];
  for (const [backends, given] of [
    [[backend], pairs],
    [[backend, second], pairs],
    [[backend], pairs.slice(0, 1)],
  ] as const) {
    const adversary = make();
    const before = vectorsOf(adversary);
    const learner = await Learner.create({ backends, ...adversary.group, optimiser, parameters });
    const report = await adversary.accumulate(learner, given, moment);
    expect(vectorsOf(adversary)).toEqual(before);
    await adversary.update(learner, report, { step: 3, learningRate: 1e-3 });
    runs.push(vectorsOf(adversary));
    await learner.dispose();
    // One step of power iteration over the weights as they were before the step.
    for (const [i, name] of names.entries()) {
      const rows = before[i].length;
      const weight = parameters.get(`discriminator.${name}`) as Float32Array;
      const columns = weight.length / rows;
      const right = new Float64Array(columns);
      for (const [at, w] of weight.entries()) right[at % columns] += w * before[i][Math.floor(at / columns)];
      const left = new Float64Array(rows);
      const length = Math.hypot(...right);
      for (const [at, w] of weight.entries())
        left[Math.floor(at / columns)] += (w * right[at % columns]) / length;
      const norm = Math.hypot(...left);
      for (const [row, value] of runs.at(-1)?.[i].entries() ?? [])
        expect(Math.abs(value - left[row] / norm)).toBeLessThan(1e-5);
    }
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
  await second.close();
});

test('a snapshot without singular vectors, or with others, is refused by name', async () => {
  const adversary = new Adversary({ model: discriminators.dino, recipe, optimiser, seed: 4 });
  const tensors = adversary.snapshot();
  const entry = 'adversary.singular.heads.1.second.weight';
  const { [entry]: found, ...rest } = tensors;
  expect(found.dims).toEqual([64]);
  expect(() => adversary.restore(rest)).toThrow(
    `${entry}: the checkpoint does not have this tensor of 64 values`,
  );
  const short = { ...rest, [entry]: new Tensor('float32', new Float32Array(3), [3]) };
  expect(() => adversary.restore(short)).toThrow(entry);
  adversary.restore(tensors);
});

test('what a discriminator begins with', () => {
  const of = (model: Discriminator) =>
    new Adversary({ model, recipe, optimiser, seed: 4 }).initialParameters();
  const spread = (values: Float32Array | undefined) => {
    const all = [...(values ?? [])];
    const mean = all.reduce((a, b) => a + b, 0) / all.length;
    return Math.sqrt(all.reduce((total, x) => total + (x - mean) ** 2, 0) / all.length);
  };
  const style = of(styleGan({ size: 16, width: 4 }));
  expect(spread(style.get('discriminator.blocks.16.first.weight'))).toBeCloseTo(1, 1);
  expect(spread(style.get('discriminator.hidden.bias'))).toBe(0);
  const dino = of(discriminators.dino);
  expect(spread(dino.get('discriminator.heads.0.second.weight'))).toBeCloseTo(0.02, 3);
  expect(dino.get('discriminator.heads.0.second.norm.weight')?.every((x) => Math.abs(x - 1) < 0.2)).toBe(
    true,
  );
  expect(dino.size).toBe(discriminatorSpecs(discriminators.dino).length);
});

test('images that are too small to be judged are refused before the first step', async () => {
  const late = { adversarial: { ...recipe, start: 40_000 } };
  for (const discriminator of [patchGan({ width: 4, layers: 5 }), blurGan({ width: 4, layers: 6 })]) {
    await expect(tinyTrainer(backend, late, { discriminator })).rejects.toThrow(
      /^tokenizer\.adversarial: images of 16 pixels are too small/,
    );
  }
});

test('the cross-entropy forms are one: vanilla and non-saturating teach the same', async () => {
  const values = await batch();
  const reports = [];
  for (const loss of ['vanilla', 'non-saturating', 'hinge'] as const) {
    const over = { adversarial: { ...recipe, start: 0, loss, generatorLoss: 'non-saturating' as const } };
    const one = await tinyTrainer(backend, over, { discriminator: patchGan({ width: 4, layers: 2 }) });
    reports.push([await one.train(values), await one.train(values)]);
    await one.dispose();
  }
  expect(reports[1]).toEqual(reports[0]);
  expect(reports[2]).not.toEqual(reports[0]);
});

describe('a perceptual loss by tokens', () => {
  const siglip = { config: smallSiglip, weights: new Map() as typeof weights };
  for (const { name, shape } of siglipVisionParameters('vision_model', smallSiglip)) {
    const data = numbers(
      name,
      shape.reduce((a, b) => a * b, 1),
    );
    siglip.weights.set(name, weightFromArray(name, shape, data));
  }
  const networks = {
    'vit, layers': vitNetwork(vit),
    'vit, last': vitNetwork(vit, 'last'),
    'vit, class': vitNetwork(vit, 'class'),
    'siglip, layers': siglipNetwork(siglip),
    'siglip, last': siglipNetwork(siglip, 'last'),
  };

  test.each(Object.entries(networks))(
    '%s: zero for equal images, those of the corner alone',
    async (_, network) => {
      const [canvas, images] = [24, 2];
      const dims = [images, 3, canvas, canvas];
      const graph = await backend.compile(
        trace((g) => ({
          loss: perceptualLoss(g, network, g.input('a', 'f32', dims), g.input('b', 'f32', dims)),
        })),
        network.weights,
      );
      const image = (name: string) => numbers(name, images * 3 * canvas ** 2);
      const between = async (a: Float32Array, b: Float32Array, size: number) => {
        const feeds = perceptualFeeds({ weight: 1, warmup: 0 }, { step: 0, canvas, size, ...network });
        const [x, y] = [a, b].map((data) => new Tensor('float32', data, dims));
        return (await graph.run({ a: x, b: y, ...feeds })).loss.data[0] as number;
      };
      const [a, b] = [image('a'), image('b')];
      expect(await between(a, a, canvas)).toBe(0);
      expect(await between(a, b, canvas)).toBeGreaterThan(1e-3);
      const size = 12;
      const changed = (isInside: boolean) =>
        b.map((x, i) => {
          const [row, column] = [Math.floor(i / canvas) % canvas, i % canvas];
          return (row < size && column < size) === isInside ? -x : x;
        });
      const corner = await between(a, b, size);
      expect(await between(a, changed(false), size)).toBeCloseTo(corner, 6);
      expect(await between(a, changed(true), size)).not.toBeCloseTo(corner, 3);
      await graph.dispose();
    },
  );

  test('it teaches, and shares the network of the discriminator', async () => {
    const over = {
      ...{ degradation: 0, correction: 0, learningRate: 5e-3 },
      perceptual: { network: 'vit' as const, weight: 5, warmup: 0 },
      adversarial: { ...recipe, weight: 0.01, start: 2 },
    };
    const both = { perceptual: networks['vit, layers'], discriminator: discriminators.dino };
    const one = await tinyTrainer(backend, over, both);
    const values = await batch();
    const seen: number[] = [];
    for (let step = 0; step < 12; step++) seen.push((await one.train(values)).extra?.perceptual as number);
    expect(seen[11]).toBeLessThan(0.9 * seen[0]);
    await one.dispose();
  });

  test('features that a network does not have are refused', () => {
    expect(() => vitNetwork(vit, 'logits')).toThrow(
      /^tokenizer\.perceptual\.features: is logits, and .*head/,
    );
    const without = { ...vit, config: { ...smallVit, hasClass: false } };
    expect(() => vitNetwork(without, 'class')).toThrow(/no class token/);
    expect(() => siglipNetwork(siglip, 'class')).toThrow(/there are layers and last/);
    expect(siglipSize(smallSiglip)).toBe(8);
  });
});
