import { Tensor } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { expect, test } from 'vitest';
import { Buffer, optimiserFeeds, optimiserGraph } from './optimiser';

const specs = [
  { name: 'w', shape: [2, 2] },
  { name: 'b', shape: [2] },
];
const start = { w: [1, -2, 3, -4], b: [0.5, -0.5] };
const gradients = [
  { w: [0.1, -0.2, 0.3, 0.4], b: [1, -2] },
  { w: [-0.5, 0.2, 0, 0.1], b: [0.3, 0.3] },
];
const options = { betas: [0.9, 0.95], epsilon: 1e-8, clip: 1, weightDecay: 0.1, average: true } as const;
const [learningRate, averageDecay] = [0.01, 0.9];

async function device() {
  const backend = createReferenceBackend();
  const tensors: Record<string, Tensor> = {};
  for (const { name, shape } of specs) {
    const values = start[name as 'w'];
    const put = (kind: string, data: number[]) => {
      tensors[`${kind}.${name}`] = new Tensor('float32', Float32Array.from(data), shape);
    };
    put(Buffer.parameter, values);
    put(Buffer.average, values);
    for (const kind of [Buffer.gradient, Buffer.moment1, Buffer.moment2])
      put(
        kind,
        values.map(() => 0),
      );
  }
  const state = await backend.createState(tensors);
  const executable = await backend.compile(optimiserGraph(specs, options), new Map());
  const read = async (kind: string, name: string) =>
    Array.from((await state.read(`${kind}.${name}`)).data as Float32Array);
  const update = async (step: number, accumulated: number, found: (typeof gradients)[0]) => {
    for (const { name, shape } of specs) {
      const sum = found[name as 'w'].map((x) => x * accumulated);
      await state.write(`${Buffer.gradient}.${name}`, new Tensor('float32', Float32Array.from(sum), shape));
    }
    const feeds = optimiserFeeds({ step, learningRate, accumulated, averageDecay }, options);
    return (await executable.run(feeds, { state })).norm.data[0] as number;
  };
  return { read, update };
}

/** AdamW as its paper writes it, in plain loops. */
function byHand() {
  const values = { w: [...start.w], b: [...start.b] };
  const mean = { w: [...start.w], b: [...start.b] };
  const first = { w: [0, 0, 0, 0], b: [0, 0] };
  const second = { w: [0, 0, 0, 0], b: [0, 0] };
  for (const [step, gradient] of gradients.entries()) {
    const norm = Math.hypot(...gradient.w, ...gradient.b);
    const scale = Math.min(1, 1 / (norm + 1e-6));
    for (const name of ['w', 'b'] as const) {
      for (const i of values[name].keys()) {
        const g = gradient[name][i] * scale;
        first[name][i] = 0.9 * first[name][i] + 0.1 * g;
        second[name][i] = 0.95 * second[name][i] + 0.05 * g * g;
        const m = first[name][i] / (1 - 0.9 ** (step + 1));
        const v = second[name][i] / (1 - 0.95 ** (step + 1));
        if (name === 'w') values.w[i] *= 1 - learningRate * 0.1;
        values[name][i] -= (learningRate * m) / (Math.sqrt(v) + 1e-8);
        mean[name][i] = averageDecay * mean[name][i] + (1 - averageDecay) * values[name][i];
      }
    }
  }
  return { values, mean };
}

test('AdamW with clipping, decay of matrices only, and running means, against plain loops', async () => {
  const { read, update } = await device();
  for (const [step, found] of gradients.entries()) {
    expect(await update(step, 3, found)).toBeCloseTo(Math.hypot(...found.w, ...found.b), 5);
  }
  const { values, mean } = byHand();
  for (const name of ['w', 'b'] as const) {
    for (const [kind, expected] of [
      [Buffer.parameter, values],
      [Buffer.average, mean],
    ] as const) {
      for (const [i, x] of (await read(kind, name)).entries()) expect(x).toBeCloseTo(expected[name][i], 5);
    }
    expect((await read(Buffer.gradient, name)).every((x) => x === 0)).toBe(true);
  }
});

test('gradients that are no numbers change nothing', async () => {
  const { read, update } = await device();
  await update(0, 1, gradients[0]);
  const before = await Promise.all(
    [Buffer.parameter, Buffer.moment1, Buffer.moment2].map((kind) => read(kind, 'w')),
  );
  expect(await update(1, 1, { ...gradients[1], b: [Number.NaN, 1] })).toBeNaN();
  const after = await Promise.all(
    [Buffer.parameter, Buffer.moment1, Buffer.moment2].map((kind) => read(kind, 'w')),
  );
  expect(after).toEqual(before);
  expect(await update(2, 1, { ...gradients[1], b: [Number.POSITIVE_INFINITY, 1] })).toBe(
    Number.POSITIVE_INFINITY,
  );
  expect(await read(Buffer.parameter, 'w')).toEqual(before[0]);
});
