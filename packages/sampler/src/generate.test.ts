import { type ImageTokenizer, Tensor } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { type GenerateOptions, generate } from './generate';
import { fakeModel, numbers } from './test-model';
import { vary } from './vary';

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

  test('options of pictures that nobody would look at are refused', async () => {
    const refused = { code: 'invalid-argument', message: expect.stringContaining('"siz"') };
    const { steps, decoded } = start();
    for await (const { pixels, image } of steps) {
      await expect(pixels({ siz: 4 } as never)).rejects.toMatchObject(refused);
      await expect(image(0, { siz: 4 } as never)).rejects.toMatchObject(refused);
      await expect(pixels(4 as never)).rejects.toMatchObject({ code: 'invalid-argument' });
    }
    expect(decoded).toEqual([]);
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
    const holes = fakeModel(); // a label that is missing is the model's to refuse, and does not stand for "no class"
    await last({ model: holes.model, labels: [undefined, 2], cfg: 1 }).catch(() => {});
    expect(holes.seen.rows[0]).toEqual([undefined, 2]);
  });

  test.each([{ keepTokens: 9 }, { keepTokens: -1 }, { keepTokens: 1.5 }, { count: 0 }, { labels: [1] }])(
    '%o is refused',
    async (over) => {
      await expect(last(over)).rejects.toMatchObject({ code: 'invalid-argument' });
    },
  );
});
