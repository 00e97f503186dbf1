import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, mul, sum, Tensor, type Tensors, trace } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { changesByFormula, pixelWeightsOf } from '../../../../tests/formula-changes';
import { numbers } from '../../../../tests/numbers-by-formula';
import { Learner } from '../learner';
import { Buffer } from '../optimiser';
import {
  adaptiveWeight,
  discriminatorStepGraph,
  generatorLoss,
  judgedWeights,
  judgementSize,
} from './adversarial';
import { drawAugmentation, strongAugmentation, weakAugmentation } from './augmentation';
import { discriminatorSpecs, patchGan } from './discriminator';

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
