import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, mean, reshape, Tensor, trace, weightFromArray } from '@detailflow/core';
import {
  classifierParameters,
  lpips,
  lpipsParameters,
  networkWeights,
  vggParameters,
} from '@detailflow/features';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numbers } from '../../../../tests/numbers-by-formula';
import { classifierNetwork, lpipsNetwork, perceptualFeeds, perceptualLoss } from './perceptual';
import { batch, tinyTrainer } from './test-trainer';

const CANVAS = 32;
const BATCH = 2;

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

const dims = [BATCH, 3, CANVAS, CANVAS];
const images = (name: string) => new Tensor('float32', numbers(name, BATCH * 3 * CANVAS ** 2), dims);

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

  const one = await tinyTrainer(
    backend,
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

  const one = await tinyTrainer(
    backend,
    { perceptual: { network: 'classifier', weight: 1, warmup: 0 } },
    { perceptual: network },
  );
  const shown = await batch();
  const seen: number[] = [];
  for (let step = 0; step < 12; step++) seen.push((await one.train(shown)).extra?.perceptual as number);
  expect(seen[11]).toBeLessThan(0.96 * seen[0]);
  await one.dispose();
});
