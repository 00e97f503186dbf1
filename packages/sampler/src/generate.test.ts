import { type ImageTokenizer, Tensor, type TokenModel } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { type GenerateOptions, generate, type SampleOptions, sampleTokens } from './generate';
import { guidanceUntil } from './guidance';
import { vary } from './vary';

/** What a fake model was asked to do. */
interface Seen {
  rows: number[][];
  predictions: number;
  open: number;
}

/**
 * A model of 8 tokens in groups of 2 whose logits depend on the label, the place and all tokens before, row by row.
 * `fail` is called before each prediction.
 */
function fakeModel(fail: (prediction: number) => void = () => {}): { model: TokenModel; seen: Seen } {
  const seen: Seen = { rows: [], predictions: 0, open: 0 };
  const [tokens, groupSize, causalTokens, vocabularySize, classes] = [8, 2, 2, 6, 3];
  const model: TokenModel = {
    tokens,
    schedule: [1, 1, 2, 2, 2],
    vocabularySize,
    classes,
    guidances: { falling: ({ index, steps }, cfg) => (cfg * (steps - index)) / steps },
    unconditional: () => classes,
    async begin(conditions) {
      const labels = conditions as number[];
      seen.rows.push([...labels]);
      seen.open++;
      const known = labels.map((): number[] => []);
      const count = () => (known[0].length < causalTokens ? 1 : groupSize);
      let predicted = 0;
      return {
        get position() {
          return known[0].length;
        },
        get nextCount() {
          return count();
        },
        async predict(chosen) {
          fail(seen.predictions++);
          expect(chosen?.length ?? 0).toBe(predicted * labels.length);
          for (const [row, list] of known.entries())
            list.push(...(chosen?.slice(row * predicted, (row + 1) * predicted) ?? []));
          predicted = count();
          const logits = labels.flatMap((label, row) =>
            Array.from({ length: predicted * vocabularySize }, (_, i) => {
              const past = known[row].reduce((sum, token, place) => sum + (token + 1) * (place + 2), 0);
              return 2 * Math.sin(5 * label + past + 3.7 * (known[row].length * vocabularySize + i));
            }),
          );
          return new Tensor('float32', Float32Array.from(logits), [labels.length, predicted, vocabularySize]);
        },
        async dispose() {
          seen.open--;
        },
      };
    },
    async dispose() {},
  };
  return { model, seen };
}

const numbers = (tensor: Tensor): number[] => Array.from(tensor.data as Int32Array);

async function tokensOf(options: SampleOptions): Promise<number[][]> {
  let last: Tensor | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  const { data, dims } = last as Tensor;
  return Array.from({ length: dims[0] }, (_, i) =>
    Array.from((data as Int32Array).subarray(i * dims[1], (i + 1) * dims[1])),
  );
}

const prefixOf = (...rows: number[][]) =>
  new Tensor('int32', Int32Array.from(rows.flat()), [rows.length, rows[0].length]);

async function countsOf(options: Partial<SampleOptions>): Promise<number[]> {
  const counts: number[] = [];
  for await (const step of sampleTokens({ model: fakeModel().model, labels: [0], ...options }))
    counts.push(step.count);
  return counts;
}

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

describe('generate', () => {
  /** Draws an image of one grey per sequence: its last token; the resolution is the number of tokens. */
  function fakeTokenizer(
    tokens = 8,
    codebookSize = 6,
  ): { tokenizer: ImageTokenizer; decoded: [number[], number?][] } {
    const decoded: [number[], number?][] = [];
    const tokenizer: ImageTokenizer = {
      previews: 'coarse-to-fine',
      tokens,
      imageSize: 8,
      codebookSize,
      resolution: (count) => count,
      encode: () => Promise.reject(new Error('never')),
      async decode(codes, { size = codes.dims[1], signal } = {}) {
        signal?.throwIfAborted();
        decoded.push([[...codes.dims], size]);
        const [batch, count] = codes.dims;
        const grey = (i: number) => (codes.data[(i + 1) * count - 1] as number) / 8;
        const pixels = Array.from({ length: batch }, (_, i) =>
          new Array<number>(3 * size * size).fill(grey(i)),
        ).flat();
        return new Tensor('float32', Float32Array.from(pixels), [batch, 3, size, size]);
      },
      dispose: async () => {},
    };
    return { tokenizer, decoded };
  }

  const start = (options: Partial<GenerateOptions> = {}) => {
    const { tokenizer, decoded } = fakeTokenizer();
    return {
      steps: generate({ model: fakeModel().model, tokenizer, labels: [0, 1, 2], ...options }),
      decoded,
    };
  };

  test('decodes only what is asked for, at the resolution of the tokens or at a given size', async () => {
    const { steps, decoded } = start();
    for await (const step of steps) {
      expect(step.resolution).toBe(step.count);
      if (step.count === 2) expect((await step.pixels()).dims).toEqual([3, 3, 2, 2]);
      if (step.count === 4) expect((await step.pixels({ size: 7 })).dims).toEqual([3, 3, 7, 7]);
    }
    expect(decoded).toEqual([
      [[3, 2], 2],
      [[3, 4], 7],
    ]);
  });

  test('one picture costs the decoding of one image', async () => {
    const { steps, decoded } = start({ tokens: 2 });
    for await (const step of steps) {
      if (step.count < 2) continue;
      const tokens = numbers(await step.tokens());
      for (const index of [undefined, 2]) {
        const { data, width } = await step.image(index, { size: 5 });
        expect(width).toBe(5);
        expect(data[0]).toBe(Math.trunc((127.5 * tokens[2 * (index ?? 0) + 1]) / 8 + 128));
      }
    }
    expect(decoded).toEqual([
      [[1, 2], 5],
      [[1, 2], 5],
    ]);
  });

  test.each([3, -1, 0.5])('there is no picture %d of 3', async (index) => {
    const { steps } = start({ tokens: 1 });
    for await (const step of steps) {
      await expect(step.image(index)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining(`${index}`),
      });
    }
    expect.hasAssertions();
  });

  test('pictures of an aborted run are not decoded', async () => {
    const controller = new AbortController();
    const { steps, decoded } = start({ signal: controller.signal });
    const { value } = await steps.next();
    controller.abort();
    await expect(value?.pixels()).rejects.toThrow('aborted');
    expect(decoded).toEqual([]);
  });

  test('a model of fewer tokens than the tokenizer draws pictures of that many', async () => {
    const { tokenizer, decoded } = fakeTokenizer(16);
    const sizes: number[] = [];
    for await (const step of generate({ model: fakeModel().model, tokenizer, labels: [0] })) {
      if (step.count === step.total) await step.pixels();
      sizes.push(step.resolution);
    }
    expect(sizes.at(-1)).toBe(8);
    expect(decoded).toEqual([[[1, 8], 8]]);
  });

  test.each([
    [4, 6],
    [8, 7],
  ])('a tokenizer of %i tokens and %i codes does not belong to the model', async (tokens, codes) => {
    const { model, seen } = fakeModel();
    const steps = generate({ model, tokenizer: fakeTokenizer(tokens, codes).tokenizer, labels: [0] });
    await expect(steps.next()).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('do not belong together'),
    });
    expect(seen.rows).toEqual([]);
  });
});

describe('variations', () => {
  /** Codes of image i: i, i + 1, ... */
  const tokenizer: ImageTokenizer = {
    previews: 'rows',
    tokens: 16,
    imageSize: 4,
    codebookSize: 6,
    resolution: () => 4,
    encode: async ({ dims: [batch] }, { tokens = 16 } = {}) =>
      new Tensor(
        'int32',
        Int32Array.from({ length: batch * tokens }, (_, i) => (Math.floor(i / tokens) + (i % tokens)) % 6),
        [batch, tokens],
      ),
    decode: async ({ dims: [batch] }) =>
      new Tensor('float32', new Float32Array(batch * 48), [batch, 3, 4, 4]),
    dispose: async () => {},
  };
  const images = new Tensor('float32', new Float32Array(2 * 48), [2, 3, 4, 4]);
  const options = (over: object) => ({ model: fakeModel().model, tokenizer, keepTokens: 3, ...over });
  const last = async (over: object) => {
    let found: number[] = [];
    const counts: number[] = [];
    for await (const step of vary(images, options(over))) {
      counts.push(step.count);
      found = numbers(await step.tokens());
    }
    return {
      counts,
      rows: Array.from({ length: found.length / 8 }, (_, i) => found.slice(i * 8, i * 8 + 8)),
    };
  };

  test('keep the first tokens of their picture, and differ by seed', async () => {
    const { rows, counts } = await last({ count: 3, seed: 4 });
    expect(rows).toHaveLength(6);
    for (const [i, row] of rows.entries()) {
      const first = Math.floor(i / 3);
      expect(row.slice(0, 3)).toEqual([first, first + 1, first + 2]);
    }
    expect(new Set(rows.map(String)).size).toBe(6);
    expect(counts).toEqual([4, 6, 8]); // nothing is new before
    // Variation j of picture i is the one of seed + i * count + j.
    expect((await last({ seed: [6, 9] })).rows).toEqual([rows[2], (await last({ seed: [0, 9] })).rows[1]]);
  });

  test('from the same to the new', async () => {
    expect((await last({ keepTokens: 8 })).rows).toEqual([
      [0, 1, 2, 3, 4, 5, 0, 1],
      [1, 2, 3, 4, 5, 0, 1, 2],
    ]);
    const { model, seen } = fakeModel();
    await last({ model, keepTokens: 0 });
    expect(seen.rows[0]).toEqual([3, 3, 3, 3]); // no class, and guidance beside
    const classes = fakeModel();
    await last({ model: classes.model, labels: [0, 2], count: 2, cfg: 1 });
    expect(classes.seen.rows[0]).toEqual([0, 0, 2, 2]);
  });

  test.each([{ keepTokens: 9 }, { keepTokens: -1 }, { keepTokens: 1.5 }, { count: 0 }, { labels: [1] }])(
    '%o is refused',
    async (over) => {
      await expect(last(over)).rejects.toMatchObject({ code: 'invalid-argument' });
    },
  );
});
