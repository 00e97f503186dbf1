import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, Tensor, trace } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { changesByFormula, pixelWeightsOf } from '../../../../tests/formula-changes';
import { numbers } from '../../../../tests/numbers-by-formula';
import { Learner } from '../learner';
import { Buffer } from '../optimiser';
import {
  type AdversarialRecipe,
  discriminatorStepGraph,
  generatorLoss,
  judgedWeights,
  judgementSize,
} from './adversarial';
import { Adversary } from './adversary';
import { discriminatorSpecs, discriminatorWeights, patchGan } from './discriminator';

interface Summary {
  readonly norm: number;
  readonly first: readonly number[];
  readonly last?: readonly number[];
}

interface Variant {
  readonly norm: 'image' | 'batch';
  readonly loss: 'hinge' | 'vanilla';
  readonly generatorLoss: 'hinge' | 'non-saturating';
  readonly canvas: number;
  readonly side: number;
  readonly width: number;
  readonly layers: number;
  readonly augment: boolean;
  readonly recipe: Record<'weight' | 'lecam' | 'consistency', number>;
  readonly ema: readonly number[];
  readonly total: number;
  readonly real: number;
  readonly fake: number;
  readonly judgements: readonly number[];
  readonly gradient: Readonly<Record<string, Summary>>;
  readonly generator: number;
  readonly slope: Summary;
}

/** By torch's own layers and losses: tools/reference/discriminator-variants.py. */
const variants: Variant[] = JSON.parse(
  readFileSync(new URL('../../../../tests/fixtures/discriminator-variants.json', import.meta.url), 'utf8'),
);
const BATCH = 2;
const NAME = 'discriminator.';
const optimiser = { betas: [0, 0] as const, epsilon: 1 };

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

const scalar = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
const normOf = (values: Float32Array) => Math.sqrt(values.reduce((total, x) => total + x * x, 0));

function expectSummary(what: string, values: Float32Array, { norm, first, last = [] }: Summary): void {
  expect(normOf(values) / norm, what).toBeCloseTo(1, 4);
  const close = (value: number, expected: number) =>
    expect(Math.abs(value - expected), what).toBeLessThan(1e-4 * norm);
  for (const [i, expected] of first.entries()) close(values[i], expected);
  for (const [i, expected] of last.entries()) close(values[values.length - last.length + i], expected);
}

/** Images in the corner of a canvas; what lies outside must not matter to the images themselves. */
function imagesOf(name: string, { canvas, side }: Variant, outside: number): Tensor {
  const data = numbers(name, BATCH * 3 * canvas ** 2).map((x, i) =>
    i % canvas < side && Math.floor(i / canvas) % canvas < side ? x : outside,
  );
  return new Tensor('float32', data, [BATCH, 3, canvas, canvas]);
}

describe.each(variants)(
  '$norm norm, $loss, $generatorLoss, $side of $canvas pixels, augment $augment',
  (variant) => {
    const { canvas, side, norm, width, layers, augment, ema } = variant;
    const model = patchGan({ width, layers, norm });
    const recipe: AdversarialRecipe = {
      ...{ ...variant.recipe, start: 0, adaptive: false, augment },
      ...{ loss: variant.loss, generatorLoss: variant.generatorLoss },
    };
    const parameters = new Map(
      discriminatorSpecs(model).map(({ name, shape }) => {
        const key = name.replace(NAME, '');
        const count = shape.reduce((a, b) => a * b, 1);
        const values = numbers(key, count).map((x) => 0.4 * x);
        return [name, key.endsWith('norm.weight') ? values.map((x) => 1 + x) : values];
      }),
    );
    const adversary = new Adversary({ model, recipe, optimiser, seed: 5 });
    const moment = { step: 3, size: side, canvas };
    const pixelWeights = pixelWeightsOf(side, canvas);
    const [height, width_] = judgementSize(model, canvas);
    const judged = new Tensor('float32', judgedWeights([height, width_], { canvas, size: side }), [
      ...[1, 1, height, width_],
    ]);
    const learnerOf = () =>
      Learner.create({ backends: [backend], ...adversary.group, optimiser, parameters });
    const [real, fake] = ['real', 'fake'].map((name) => imagesOf(name, variant, augment ? 0.7 : 0));

    test('names of what is learned', () => {
      expect(model.specs.map(({ name }) => name).sort()).toEqual(Object.keys(variant.gradient).sort());
    });

    test('losses, judgements and gradients of the discriminator', async () => {
      const learner = await learnerOf();
      let found: { total: number; real: number; fake: number };
      if (augment) {
        const graph = await learner.compile(
          discriminatorStepGraph({ model, recipe, images: BATCH, size: canvas }),
        );
        const of = { images: 2 * BATCH, side, canvas };
        const [{ loss, judgedReal, judgedFake }] = await learner.accumulate(graph, [
          {
            ...{ judged, pixelWeights, real, fake },
            ...{ ...changesByFormula('weak', of), ...changesByFormula('strong', of) },
            ...{ emaReal: scalar(ema[0]), emaFake: scalar(ema[1]) },
          },
        ]);
        const [total, a, b] = [loss, judgedReal, judgedFake].map(({ data }) => data[0] as number);
        found = { total, real: a, fake: b };
      } else {
        // Without changes: the whole way that training takes, whose strong ones do not count here.
        const report = await adversary.accumulate(learner, [{ real, fake }], { ...moment, pixelWeights });
        found = { total: report.discriminator, real: report.judgedReal, fake: report.judgedFake };
      }
      expect(found.total).toBeCloseTo(variant.total, 4);
      expect(found.real).toBeCloseTo(variant.real, 4);
      expect(found.fake).toBeCloseTo(variant.fake, 4);
      const gradient = await learner.read(Buffer.gradient);
      expect(gradient.size).toBe(model.specs.length);
      const largest = Math.max(...Object.values(variant.gradient).map(({ norm }) => norm));
      for (const [name, values] of gradient) {
        const expected = variant.gradient[name.replace(NAME, '')];
        // Nothing but rounding where a norm takes away what was added before it.
        if (expected.norm < 1e-5 * largest) expect(normOf(values)).toBeLessThan(1e-4 * largest);
        else expectSummary(name, values, expected);
      }
      await learner.dispose();
    });

    test('judgements one by one; the loss of the generator and its slope', async () => {
      const learner = await learnerOf();
      const dims = [BATCH, 3, canvas, canvas];
      const graph = await learner.compile(
        trace((g) => {
          const pixels = g.input('pixels', 'f32', dims);
          const weights = g.input('pixelWeights', 'f32', [1, 1, canvas, canvas]);
          const term = generatorLoss(g, model, { pixels, pixelWeights: weights }, recipe.generatorLoss);
          const [slope] = gradients(term, [pixels]);
          return { term, slope: slope as NonNullable<typeof slope> };
        }),
      );
      const weak = augment
        ? changesByFormula('weak', { images: BATCH, side, canvas, first: BATCH })
        : adversary.generatorFeeds(moment, { place: 0, images: BATCH });
      const { term, slope } = await learner.run(graph, { judged, pixelWeights, pixels: fake, ...weak });
      expect(term.data[0]).toBeCloseTo(variant.generator, 4);
      const inside = (slope.data as Float32Array).filter(
        (_, i) => i % canvas < side && Math.floor(i / canvas) % canvas < side,
      );
      expectSummary('slope', inside, variant.slope);
      expect(normOf(slope.data as Float32Array)).toBeCloseTo(normOf(inside), 6);

      if (!augment) {
        const plain = await learner.compile(
          trace((g) => ({ logits: model.logits(discriminatorWeights(g, model), g.input('x', 'f32', dims)) })),
        );
        const { logits } = await learner.run(plain, { x: real });
        expect(logits.data.length).toBe(variant.judgements.length);
        for (const [i, expected] of variant.judgements.entries())
          expect(logits.data[i]).toBeCloseTo(expected, 4);
      }
      await learner.dispose();
    });
  },
);
