import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, type Executable, Tensor, type Tensors, trace } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { lpipsParameters, vggParameters, vggWidths } from '@detailflow/features';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numbers, weightsByFormula } from '../../../../tests/numbers-by-formula';
import { parseTrainingConfig } from '../training-config';
import { lossTerms } from './loss-networks';
import {
  classifierNetwork,
  lpipsNetwork,
  perceptualDropoutFeeds,
  perceptualFeeds,
  perceptualLoss,
} from './perceptual';

interface Case {
  readonly side: number;
  readonly plain: number;
  readonly loss: number;
  readonly norm: number;
  readonly corner: readonly number[];
  readonly last: readonly number[];
  readonly draws: { readonly count: number; readonly mean: number; readonly deviation: number };
}

/** By torch: tools/reference/perceptual-dropout.py. */
const { cases }: { cases: Case[] } = JSON.parse(
  readFileSync(new URL('../../../../tests/fixtures/perceptual-dropout.json', import.meta.url), 'utf8'),
);
const [CANVAS, BATCH] = [32, 2];
const network = lpipsNetwork(weightsByFormula(vggParameters()), weightsByFormula(lpipsParameters()));

let backend: Backend & { close(): Promise<void> };
let whole: Executable;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
  whole = await compiled(CANVAS, { dropout: true });
});
afterAll(async () => {
  await whole.dispose();
  await backend.close();
});

function compiled(size: number, recipe: { dropout?: boolean }): Promise<Executable> {
  const dims = [BATCH, 3, size, size];
  return backend.compile(
    trace((g) => {
      const [a, b] = ['a', 'b'].map((name) => g.input(name, 'f32', dims));
      const loss = perceptualLoss(g, network, a, b, recipe);
      const [slope] = gradients(loss, [a]);
      return { loss, slope: slope as NonNullable<typeof slope> };
    }),
    network.weights,
  );
}

const images = (name: string) => numbers(name, BATCH * 3 * CANVAS ** 2);
const tensor = (data: Float32Array, size = CANVAS) => new Tensor('float32', data, [BATCH, 3, size, size]);
const normOf = (values: Float32Array) => Math.sqrt(values.reduce((total, x) => total + x * x, 0));
const masks = (canvas: number, size: number) =>
  perceptualFeeds({ weight: 1, warmup: 0 }, { step: 0, canvas, size, levels: network.levels });

/** What the reference script keeps. */
const kept = (): Tensors =>
  Object.fromEntries(
    vggWidths.map((channels, level) => {
      const dims = [BATCH, channels, CANVAS >> level, CANVAS >> level];
      const values = numbers(
        `dropout/keep${level}`,
        dims.reduce((a, b) => a * b, 1),
      );
      return [
        `perceptualKeep${level}`,
        new Tensor(
          'bool',
          Uint8Array.from(values, (x) => Number(x >= 0)),
          dims,
        ),
      ];
    }),
  );

/** The corner of canvases alone. */
const corner = (data: Float32Array, side: number) =>
  data.filter((_, i) => i % CANVAS < side && Math.floor(i / CANVAS) % CANVAS < side);

test.each(cases)(
  'with a given draw the loss and its gradient are those of torch, $side pixels',
  async (found) => {
    const { side } = found;
    const [a, b] = [images('dropout/a'), images('dropout/b')];
    const feeds = { ...masks(CANVAS, side), ...kept() };
    const { loss, slope } = await whole.run({ a: tensor(a), b: tensor(b), ...feeds });
    expect((loss.data[0] as number) / found.loss).toBeCloseTo(1, 4);
    const inside = corner(slope.data as Float32Array, side);
    expect(normOf(inside) / found.norm).toBeCloseTo(1, 3);
    expect(normOf(slope.data as Float32Array) / found.norm).toBeCloseTo(1, 3); // nothing outside
    const size = found.norm / Math.sqrt(inside.length);
    for (const [i, expected] of found.corner.entries())
      expect(Math.abs(inside[i] - expected)).toBeLessThan(2e-3 * size);
    for (const [i, expected] of found.last.entries())
      expect(Math.abs(inside[inside.length - found.last.length + i] - expected)).toBeLessThan(2e-3 * size);
  },
);

test('finite differences along the gradient, the draw being the same', async () => {
  const [a, b] = [images('dropout/a'), images('dropout/b')];
  const at = { seed: 4, step: 9, place: 1, images: BATCH, canvas: CANVAS };
  const feeds = { b: tensor(b), ...masks(CANVAS, 24), ...perceptualDropoutFeeds(network, at) };
  const { slope } = await whole.run({ a: tensor(a), ...feeds });
  const norm = normOf(slope.data as Float32Array);
  const along = async (distance: number) => {
    const moved = a.map((x, i) => x + (distance * (slope.data as Float32Array)[i]) / norm);
    return (await whole.run({ a: tensor(moved), ...feeds })).loss.data[0] as number;
  };
  const step = 0.02;
  const found = ((await along(step)) - (await along(-step))) / (2 * step);
  expect(found / norm).toBeCloseTo(1, 2);
});

test('draws keep the mean, spread as those of torch, and are their own by step, place and seed', async () => {
  const { side, plain, draws } = cases[1];
  const small = await compiled(side, { dropout: true });
  const pair = Object.fromEntries(
    ['a', 'b'].map((name) => [name, tensor(corner(images(`dropout/${name}`), side), side)]),
  );
  const count = 48;
  const values: number[] = [];
  const at = (step: number) => ({ seed: 7, step, place: 0, images: BATCH, canvas: side });
  for (let step = 0; step < count; step++) {
    const feeds = { ...masks(side, side), ...perceptualDropoutFeeds(network, at(step)) };
    values.push((await small.run({ ...pair, ...feeds })).loss.data[0] as number);
  }
  await small.dispose();
  const mean = values.reduce((x, y) => x + y) / count;
  const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (count - 1));
  expect(Math.abs(mean - plain)).toBeLessThan((4 * draws.deviation) / Math.sqrt(count));
  expect(Math.abs(draws.mean - plain)).toBeLessThan((4 * draws.deviation) / Math.sqrt(draws.count));
  expect(deviation / draws.deviation).toBeGreaterThan(0.65);
  expect(deviation / draws.deviation).toBeLessThan(1.5);

  const of = (more: object) => perceptualDropoutFeeds(network, { ...at(0), ...more }).perceptualKeep1.data;
  expect(of({})).toEqual(of({}));
  for (const more of [{ step: 1 }, { place: 1 }, { seed: 8 }, { seed: 7 + 2 ** 40 }])
    expect(of(more), JSON.stringify(more)).not.toEqual(of({}));
  // Every channel and place is drawn by itself, kept half of the time.
  const bits = Array.from(of({}));
  const share = bits.reduce((x, y) => x + y) / bits.length;
  expect(Math.abs(share - 0.5)).toBeLessThan(4 * (0.5 / Math.sqrt(bits.length)));
  const next = bits.slice(1).filter((bit, i) => bit === bits[i]).length / (bits.length - 1);
  expect(Math.abs(next - 0.5)).toBeLessThan(4 * (0.5 / Math.sqrt(bits.length)));
});

test('only the heads of LPIPS have dropout', () => {
  const { tokenizer } = parseTrainingConfig({
    preset: 'tiny-32',
    tokenizer: { perceptual: { network: 'classifier', dropout: true } },
  });
  const classifier = classifierNetwork(
    { imageSize: 32, classes: 2, widths: [2, 3, 4], features: 2 },
    new Map(),
  );
  const of = (perceptual: typeof network) => lossTerms(tokenizer.model, tokenizer.recipe, { perceptual });
  expect(() => of(classifier)).toThrow(/only the heads of LPIPS have dropout/);
  expect(of(network).map(({ name }) => name)).toEqual(['perceptual']);
});
