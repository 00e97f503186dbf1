import { createTokenModel, type GroupTokenModel } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, Tensor } from '@detailflow/core';
import { generate, type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { createTokenizer } from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { goldenTokenizer, goldenTokenModel } from './models';

/** The models of golden configuration A on ONNX Runtime; `states` counts the KV caches that are not disposed. */
let backend: Backend;
let model: GroupTokenModel;
let states = 0;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
  model = createTokenModel({ ...goldenTokenModel('A'), backend: counting(backend) });
});
afterAll(() => backend.close());

function counting(inner: Backend): Backend {
  return {
    name: inner.name,
    createState: (tensors) => inner.createState(tensors),
    close: () => inner.close(),
    [Symbol.asyncDispose]: () => inner.close(),
    async compile(...given) {
      const executable = await inner.compile(...given);
      return {
        run: (...feeds) => executable.run(...feeds),
        dispose: () => executable.dispose(),
        async createState(dims) {
          const state = await executable.createState(dims);
          const dispose = state.dispose.bind(state);
          states++;
          state.dispose = () => {
            states--;
            return dispose();
          };
          return state;
        },
      };
    },
  };
}

async function sample(options: Omit<SampleOptions, 'model'>): Promise<number[][]> {
  let last: Tensor | undefined;
  for await (const step of sampleTokens({ model, ...options })) last = await step.tokens();
  const { data, dims } = last as Tensor;
  return Array.from({ length: dims[0] }, (_, i) =>
    Array.from((data as Int32Array).subarray(i * dims[1], (i + 1) * dims[1])),
  );
}

test('five images of a batch are the five images alone', async () => {
  const labels = [0, 3, 3, 9, 10];
  const settings = { cfg: 2, temperature: 0.9, topK: 50, topP: 0.95 };
  const batch = await sample({ labels, seed: 7, ...settings });
  const alone: number[][] = [];
  for (const [i, label] of labels.entries())
    alone.push(...(await sample({ labels: [label], seed: 7 + i, ...settings })));
  expect(alone).toEqual(batch);
  expect(new Set(batch.map(String)).size).toBe(5);
});

describe('a greedy sequence, continued from its own first tokens, stays the same', () => {
  const { causalTokens, tokens } = goldenTokenModel('A').config;
  const labels = [2, 5];
  test.each([1, causalTokens, causalTokens + 1, tokens - 1])('%i of them', async (count) => {
    const whole = await sample({ labels, greedy: true });
    const prefix = new Tensor('int32', Int32Array.from(whole.flatMap((row) => row.slice(0, count))), [
      2,
      count,
    ]);
    expect(await sample({ labels, greedy: true, prefix })).toEqual(whole);
    // With random draws the rest may differ, the prefix may not.
    const drawn = await sample({ labels, seed: 3, temperature: 3, prefix });
    expect(drawn.map((row) => row.slice(0, count))).toEqual(whole.map((row) => row.slice(0, count)));
  });
});

test('two generations side by side do not touch each other', async () => {
  const [one, two] = [
    { labels: [1, 2], seed: 1 },
    { labels: [8], seed: 2, cfg: 1 },
  ];
  const apart = [await sample(one), await sample(two)];
  expect(await Promise.all([sample(one), sample(two)])).toEqual(apart);
});

test('caches are freed after a full run, an early end and an abort', async () => {
  await sample({ labels: [1] });
  for await (const step of sampleTokens({ model, labels: [1] })) if (step.count === 3) break;
  const controller = new AbortController();
  const steps = sampleTokens({ model, labels: [1], signal: controller.signal });
  await steps.next();
  expect(states).toBe(1);
  controller.abort();
  await expect(steps.next()).rejects.toThrow('aborted');
  expect(states).toBe(0);
});

test('previews grow with the tokens and do not change them', async () => {
  const tokenizer = createTokenizer({ ...goldenTokenizer('A'), backend });
  const sizes: number[] = [];
  let last: number[] = [];
  for await (const step of generate({ model, tokenizer, labels: [4], seed: 11 })) {
    const picture = await step.image();
    expect(picture.width).toBe(step.resolution);
    sizes.push(picture.width);
    last = Array.from((await step.tokens()).data as Int32Array);
  }
  expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
  expect(sizes.at(-1)).toBe(tokenizer.imageSize);
  expect([last]).toEqual(await sample({ labels: [4], seed: 11 }));
});
