import { Tensor, type TokenModel } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { type SampleOptions, sampleTokens } from './generate';
import { guidanceUntil } from './guidance';
import { createPictureBatch } from './picture-batch';
import { countsOf, fakeModel, numbers, prefixOf, tokensOf } from './test-model';

describe('steps', () => {
  test('come after each causal token and each group, with all tokens so far', async () => {
    const steps = [];
    for await (const step of sampleTokens({ model: fakeModel().model, labels: [0, 1] })) {
      steps.push({ count: step.count, total: step.total, tokens: await step.tokens() });
    }
    expect(steps.map(({ count, total }) => [count, total])).toEqual(
      [1, 2, 4, 6, 8].map((count) => [count, 8]),
    );
    const last = numbers(steps[4].tokens);
    for (const { count, tokens } of steps) {
      expect(tokens.dims).toEqual([2, count]);
      expect(numbers(tokens)).toEqual([...last.slice(0, count), ...last.slice(8, 8 + count)]);
    }
  });

  test('keep their tokens, whatever is done with the tensor', async () => {
    for await (const step of sampleTokens({ model: fakeModel().model, labels: [0], tokens: 2 })) {
      const before = numbers(await step.tokens());
      ((await step.tokens()).data as Int32Array).fill(99);
      expect(numbers(await step.tokens())).toEqual(before);
    }
  });

  test.each([
    [1, [1]],
    [2, [1, 2]],
    [3, [1, 2, 4]],
    [4, [1, 2, 4]],
    [7, [1, 2, 4, 6, 8]],
  ])('a limit of %i tokens ends with its group', async (tokens, counts) => {
    expect(await countsOf({ tokens })).toEqual(counts);
  });

  test('fewer tokens are the first of all tokens', async () => {
    const all = await tokensOf({ model: fakeModel().model, labels: [1], seed: 5 });
    const few = await tokensOf({ model: fakeModel().model, labels: [1], seed: 5, tokens: 3 });
    expect(few[0]).toEqual(all[0].slice(0, 4));
  });
});

describe('guidance', () => {
  test('1 computes no unconditional rows', async () => {
    const { model, seen } = fakeModel();
    await tokensOf({ model, labels: [0, 2], cfg: 1 });
    expect(seen.rows).toEqual([[0, 2]]);
  });

  test.each([{ cfg: 1.5 }, { cfg: 0 }, { cfg: 1, guidance: 'falling' }, {}])(
    '%o computes them beside',
    async (options) => {
      const { model, seen } = fakeModel();
      await tokensOf({ model, labels: [0, 2], ...options });
      expect(seen.rows).toEqual([[0, 2, 3, 3]]);
    },
  );

  test('0 draws without class, as cfg 1 does for the unconditional label', async () => {
    const unconditional = await tokensOf({ model: fakeModel().model, labels: [3], cfg: 1, seed: 4 });
    expect(await tokensOf({ model: fakeModel().model, labels: [0], cfg: 0, seed: 4 })).toEqual(unconditional);
    expect(await tokensOf({ model: fakeModel().model, labels: [0], cfg: 1, seed: 4 })).not.toEqual(
      unconditional,
    );
  });
});

describe('seeds', () => {
  const labels = [0, 1, 2, 0, 3];

  test('give the same image alone and in any batch', async () => {
    const { model } = fakeModel();
    const batch = await tokensOf({ model, labels, seed: 40 });
    const listed = await tokensOf({ model, labels, seed: [40, 41, 42, 43, 44] });
    const turned = await tokensOf({ model, labels: [...labels].reverse(), seed: [44, 43, 42, 41, 40] });
    const alone = await Promise.all(
      labels.map((label, i) => tokensOf({ model, labels: [label], seed: 40 + i })),
    );
    expect(listed).toEqual(batch);
    expect(turned.reverse()).toEqual(batch);
    expect(alone.flat()).toEqual(batch);
  });

  test('of other numbers give other images, the default is 0', async () => {
    const { model } = fakeModel();
    const drawn = (seed?: number) => tokensOf({ model, labels: [1], seed });
    expect(await drawn(1)).not.toEqual(await drawn(2));
    expect(await drawn()).toEqual(await drawn(0));
  });

  test('do not matter to greedy sampling', async () => {
    const { model } = fakeModel();
    const drawn = (seed: number) => tokensOf({ model, labels: [1], seed, greedy: true });
    expect(await drawn(1)).toEqual(await drawn(2));
  });
});

describe('a prefix', () => {
  const greedy = { labels: [0, 2], greedy: true };

  test.each([1, 2, 3, 4, 7])(
    'of %i tokens is kept, and greedy sampling goes on as it would have',
    async (count) => {
      const whole = await tokensOf({ model: fakeModel().model, ...greedy });
      const prefix = prefixOf(...whole.map((row) => row.slice(0, count)));
      expect(await tokensOf({ model: fakeModel().model, ...greedy, prefix })).toEqual(whole);
    },
  );

  test('of other tokens is kept word by word', async () => {
    const prefix = prefixOf([5, 4, 3], [0, 0, 0]);
    const drawn = await tokensOf({ model: fakeModel().model, labels: [0, 2], prefix });
    expect(drawn.map((row) => row.slice(0, 3))).toEqual([
      [5, 4, 3],
      [0, 0, 0],
    ]);
    expect(drawn.map((row) => row.length)).toEqual([8, 8]);
  });

  test('leaves out the steps that are known', async () => {
    expect(await countsOf({ prefix: prefixOf([1, 2, 3]) })).toEqual([4, 6, 8]);
    expect(await countsOf({ prefix: prefixOf([1, 2, 3, 4]) })).toEqual([6, 8]);
    expect(await countsOf({ prefix: prefixOf([1, 2, 3, 4]), tokens: 5 })).toEqual([6]);
  });

  test('of all tokens is one step', async () => {
    const all = [1, 2, 3, 4, 5, 0, 1, 2];
    expect(await countsOf({ prefix: prefixOf(all) })).toEqual([8]);
    expect(await tokensOf({ model: fakeModel().model, labels: [0], prefix: prefixOf(all) })).toEqual([all]);
  });

  test.each<[string, Tensor<'int32'>, Partial<SampleOptions>?]>([
    ['for another number of images', prefixOf([1], [2])],
    ['longer than a sequence', prefixOf([1, 2, 3, 4, 5, 0, 1, 2, 3])],
    ['longer than the limit', prefixOf([1, 2, 3, 4, 5]), { tokens: 4 }],
    ['with a code that does not exist', prefixOf([6])],
    ['with a negative code', prefixOf([-1])],
    ['of floats', new Tensor('float32', Float32Array.of(1), [1, 1]) as never],
    ['without rows', new Tensor('int32', Int32Array.of(1), [1])],
  ])('%s is refused', async (_, prefix, options) => {
    await expect(countsOf({ prefix, ...options })).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('prefix is'),
    });
  });
});

describe('noise', () => {
  const noise = (fill: number, ...dims: number[]) =>
    new Tensor('float32', new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(fill), dims);

  test('decides the draw', async () => {
    const draws = noise(1e6, 1, 8, 6); // nothing is likely ...
    for (let place = 0; place < 8; place++) draws.data[place * 6 + (place % 6)] = 1e-6; // ... but this
    expect(await tokensOf({ model: fakeModel().model, labels: [0], noise: draws })).toEqual([
      [0, 1, 2, 3, 4, 5, 0, 1],
    ]);
  });

  test.each([
    ['for another batch', noise(1, 2, 8, 6)],
    ['for other codes', noise(1, 1, 8, 5)],
    ['with a zero', noise(0, 1, 8, 6)],
    ['with NaN', noise(Number.NaN, 1, 8, 6)],
    ['of whole numbers', new Tensor('int32', new Int32Array(48).fill(1), [1, 8, 6]) as never],
  ])('%s is refused', async (_, tensor) => {
    await expect(countsOf({ noise: tensor })).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('noise'),
    });
  });
});

test.each<[keyof SampleOptions, unknown]>([
  ['temperature', 0],
  ['temperature', 1e-40],
  ['temperature', -1],
  ['temperature', Number.POSITIVE_INFINITY],
  ['temperature', Number.NaN],
  ['topK', -1],
  ['topK', 2.5],
  ['topP', -0.1],
  ['topP', 1.1],
  ['topP', Number.NaN],
  ['cfg', -1],
  ['cfg', Number.NaN],
  ['tokens', 0],
  ['tokens', 9],
  ['tokens', 1.5],
  ['seed', -1],
  ['seed', 0.5],
  ['seed', Number.NaN],
  ['seed', [1, 2]],
  ['seed', []],
])('%s: %o is refused before anything starts', async (name, value) => {
  const { model, seen } = fakeModel();
  await expect(tokensOf({ model, labels: [0], [name]: value })).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(new RegExp(`^${name} is .+give`)),
  });
  expect(seen.rows).toEqual([]);
});

describe('stopping', () => {
  test('an abort between steps asks for no further prediction and frees the session', async () => {
    const { model, seen } = fakeModel();
    const controller = new AbortController();
    const reason = new Error('enough');
    const run = async () => {
      for await (const step of sampleTokens({ model, labels: [0], signal: controller.signal })) {
        if (step.count === 2) controller.abort(reason);
      }
    };
    await expect(run()).rejects.toBe(reason);
    expect(seen).toMatchObject({ predictions: 2, open: 0 });
  });

  test('leaving the loop frees the session', async () => {
    const { model, seen } = fakeModel();
    for await (const step of sampleTokens({ model, labels: [0] })) if (step.count === 4) break;
    expect(seen).toMatchObject({ predictions: 3, open: 0 });
  });

  test('a model that fails frees the session and passes its error on', async () => {
    const failure = new Error('out of memory');
    const { model, seen } = fakeModel((prediction) => {
      if (prediction === 2) throw failure;
    });
    await expect(tokensOf({ model, labels: [0] })).rejects.toBe(failure);
    expect(seen.open).toBe(0);
  });

  test('a full run frees the session', async () => {
    const { model, seen } = fakeModel();
    await tokensOf({ model, labels: [0] });
    expect(seen).toMatchObject({ predictions: 5, open: 0 });
  });
});

describe('tokens that are kept', () => {
  const codes = prefixOf([5, 4, 3, 2, 1, 0, 5, 4], [0, 1, 2, 3, 4, 5, 0, 1]);
  const mask = (places: number[]) =>
    new Tensor(
      'bool',
      Uint8Array.from({ length: 8 }, (_, i) => Number(places.includes(i))),
      [8],
    );

  test('stay anywhere, and the others are drawn with them in view', async () => {
    const options = { labels: [0, 1], seed: 3 };
    const drawn = await tokensOf({
      model: fakeModel().model,
      ...options,
      keep: { codes, mask: mask([1, 4, 7]) },
    });
    for (const [row, tokens] of drawn.entries()) {
      for (const place of [1, 4, 7]) expect(tokens[place]).toBe(codes.data[row * 8 + place]);
    }
    const free = await tokensOf({ model: fakeModel().model, ...options });
    expect(drawn.map((row) => row[0])).toEqual(free.map((row) => row[0]));
    expect(drawn.map((row) => row.slice(2))).not.toEqual(free.map((row) => row.slice(2)));
  });

  test('as first tokens are what a prefix is', async () => {
    const kept = { codes, mask: mask([0, 1, 2]) };
    const prefix = prefixOf([5, 4, 3], [0, 1, 2]);
    const options = { labels: [2, 1], seed: 9 };
    expect(await tokensOf({ model: fakeModel().model, ...options, keep: kept })).toEqual(
      await tokensOf({ model: fakeModel().model, ...options, prefix }),
    );
  });

  test.each([
    ['codes of another length', { codes: prefixOf([1], [2]), mask: mask([0]) }, 'keep.codes is'],
    [
      'codes that do not exist',
      { codes: prefixOf(Array(8).fill(6), Array(8).fill(0)), mask: mask([0]) },
      'keep.codes is',
    ],
    ['a mask of another length', { codes, mask: new Tensor('bool', new Uint8Array(3), [3]) }, 'keep.mask is'],
  ])('%s are refused', async (_, keep, message) => {
    await expect(tokensOf({ model: fakeModel().model, labels: [0, 1], keep })).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining(message),
    });
  });
});

describe('what a model recommends', () => {
  const recommending = (sampling: TokenModel['sampling']): TokenModel => ({ ...fakeModel().model, sampling });

  test('holds where the caller says nothing', async () => {
    const own = await tokensOf({
      model: recommending({ cfg: 3, guidance: 'falling', topK: 2 }),
      labels: [1],
    });
    const said = { cfg: 3, guidance: 'falling', topK: 2 };
    expect(own).toEqual(await tokensOf({ model: fakeModel().model, labels: [1], ...said }));
    expect(own).not.toEqual(await tokensOf({ model: fakeModel().model, labels: [1] }));
  });

  test('gives way to the caller', async () => {
    const model = recommending({ cfg: 3, topK: 1 });
    const options = { labels: [1], cfg: 1.5, topK: 0 };
    expect(await tokensOf({ model, ...options })).toEqual(
      await tokensOf({ model: fakeModel().model, ...options }),
    );
  });

  test('can fix how a step is chosen', async () => {
    const model: TokenModel = {
      ...fakeModel().model,
      choiceAt: ({ index }, choice) => (index < 2 ? choice : { ...choice, topK: 1 }),
    };
    const [first] = await tokensOf({ model, labels: [2], seed: 1 });
    const prefix = prefixOf(first.slice(0, 2));
    expect(await tokensOf({ model: fakeModel().model, labels: [2], prefix, greedy: true })).toEqual([first]);
  });

  test('an unknown guidance is refused with those there are', async () => {
    await expect(countsOf({ guidance: 'rising' })).rejects.toMatchObject({
      message: expect.stringContaining('constant or falling'),
    });
  });

  test('guidance that ends at a step leaves the later ones to the condition alone', async () => {
    const guided = await tokensOf({
      model: fakeModel().model,
      labels: [1],
      cfg: 2,
      guidance: guidanceUntil(1),
    });
    const prefix = prefixOf(guided[0].slice(0, 2));
    expect(await tokensOf({ model: fakeModel().model, labels: [1], cfg: 1, prefix })).toEqual(guided);
  });
});

test.each([
  ['fewer logits', (data: Float32Array) => data.subarray(0, data.length / 2)],
  ['more logits', (data: Float32Array) => Float32Array.of(...data, ...data)],
])('a model that gives %s than it was asked for is refused', async (_, change) => {
  const { model, seen } = fakeModel();
  const other: TokenModel = {
    ...model,
    async begin(labels) {
      const session = await model.begin(labels);
      return {
        position: 0,
        nextCount: 1,
        predict: async (chosen) => {
          const data = change((await session.predict(chosen)).data);
          return new Tensor('float32', data, [data.length]);
        },
        dispose: () => session.dispose(),
      };
    },
  };
  const refused = { code: 'shape', message: expect.stringContaining('logits') };
  await expect(tokensOf({ model: other, labels: [0, 1] })).rejects.toMatchObject(refused);
  expect(seen.open).toBe(0);
  const batch = createPictureBatch({ model: other });
  await expect(batch.sample({ label: 1 }).next()).rejects.toMatchObject(refused);
  await batch.close();
  expect(seen.open).toBe(0);
});

test('a mask keeps every place that is not zero', async () => {
  const codes = prefixOf([5, 4, 3, 2, 1, 0, 1, 2]);
  const mask = new Tensor('bool', Uint8Array.of(255, 0, 1, 2, 0, 0, 0, 128), [8]);
  const [tokens] = await tokensOf({ model: fakeModel().model, labels: [1], keep: { codes, mask } });
  expect([0, 2, 3, 7].map((place) => tokens[place])).toEqual([5, 3, 2, 2]);
});
