import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, readFloat32, Tensor, trace, type Weight, weightFromArray } from '@detailflow/core';
import { networkWeights } from '@detailflow/features';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numbers } from '../../../../tests/numbers-by-formula';
import { alignmentLoss, alignmentSpecs } from './alignment';
import { batch, tinyTrainer } from './test-trainer';

const BATCH = 2;

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

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
  const one = await tinyTrainer(backend, { alignment: { weight: 1 } }, { alignment });
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
