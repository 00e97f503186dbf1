import { type Backend, Tensor, weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { describe, expect, test } from 'vitest';
import { parseTokenizerConfig } from './config';
import { tokenizerParameters } from './parameters';
import { createTokenizer } from './tokenizer';

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 4 };
const config = parseTokenizerConfig({
  imageSize: 16,
  tokens: 8,
  groupSize: 2,
  causalTokens: 4,
  codebookSize: 12,
  codebookDim: 4,
  encoder: tower,
  decoder: tower,
  causalEncoder: true,
  causalDecoder: false,
  correction: true,
  resolutionPower: 1.5,
});

const weightsOf = (one: typeof config) =>
  new Map(
    tokenizerParameters(one).map(({ name, shape }) => {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) =>
        Math.sin(name.length + i),
      );
      return [name, weightFromArray(name, shape, data)];
    }),
  );

const make = (one = config, backend: Backend = createReferenceBackend()) =>
  createTokenizer({ config: one, weights: weightsOf(one), backend });

const images = (...dims: number[]) =>
  new Tensor('float32', new Float32Array(dims.reduce((a, b) => a * b, 1)), dims);
const codes = (...values: number[]) => new Tensor('int32', Int32Array.from(values), [1, values.length]);

test('sizes of what comes out', async () => {
  const tokenizer = make();
  expect([tokenizer.tokens, tokenizer.imageSize, tokenizer.codebookSize]).toEqual([8, 16, 12]);
  const found = await tokenizer.encode(images(2, 3, 16, 16));
  expect([found.type, found.dims]).toEqual(['int32', [2, 8]]);
  expect((await tokenizer.encode(images(1, 3, 8, 8), { tokens: 6 })).dims).toEqual([1, 6]);
  expect((await tokenizer.decode(found)).dims).toEqual([2, 3, 16, 16]);
  const size = tokenizer.resolution(1);
  expect((await tokenizer.decode(found, { tokens: 1 })).dims).toEqual([2, 3, size, size]);
  expect((await tokenizer.decode(codes(1, 2, 3), { size: 20 })).dims).toEqual([1, 3, 20, 20]);
});

test('a decoder is not told of tokens beyond those asked for', async () => {
  const tokenizer = make();
  const [a, b] = [codes(1, 2, 3, 4), codes(1, 2, 9, 9)];
  const first = (given: Tensor<'int32'>) => tokenizer.decode(given, { tokens: 2, size: 8 });
  expect((await first(a)).data).toEqual((await first(b)).data);
  expect((await tokenizer.decode(a, { size: 8 })).data).not.toEqual(
    (await tokenizer.decode(b, { size: 8 })).data,
  );
});

test('noisy codes are repeatable by their seed, image by image', async () => {
  const tokenizer = make();
  const both = await tokenizer.encodeCorrected(images(2, 3, 16, 16), { noiseIndex: 0, seed: 5 });
  const alone = await tokenizer.encodeCorrected(images(1, 3, 16, 16), { noiseIndex: 0, seed: 6 });
  for (const row of ['clean', 'input', 'target'] as const) {
    expect(both[row].data.slice(8)).toEqual(alone[row].data);
  }
});

test('options that are there without a value are as if they were not', async () => {
  // Four patches a side and a power that leaves the list's sizes off those of their tokens.
  const tokenizer = make(parseTokenizerConfig({ ...config, resolutionPower: 0.5 }));
  const size = tokenizer.resolutions.bestResolutions.find((one) => {
    const tokens = tokenizer.resolutions.decResToBestToken.get(one) as number;
    return tokens >= config.causalTokens && tokens < config.tokens && tokens % config.groupSize === 0;
  }) as number;
  const sized = tokenizer.atSize(size);
  const all = images(1, 3, size, size);
  const nothing = { tokens: undefined, size: undefined, signal: undefined };
  const { size: _, ...ofEncoding } = nothing;
  const found = await sized.encode(all, ofEncoding);
  expect(found.dims).toEqual([1, sized.tokens]);
  expect(await sized.encode(all)).toEqual(found);
  expect((await sized.encodeCorrected(all, { noiseIndex: 0, ...ofEncoding })).clean.dims).toEqual(found.dims);
  expect((await sized.decode(found, nothing)).dims).toEqual([1, 3, size, size]);
  await expect(sized.decode(undefined as never)).rejects.toMatchObject({ code: 'invalid-argument' });
});

describe('refused are', () => {
  const tokenizer = make();
  test.each<[string, () => Promise<unknown>, string, string]>([
    [
      'images that hold no numbers',
      () => tokenizer.encode(new Tensor('float32', new Float32Array(768).fill(Number.NaN), [1, 3, 16, 16])),
      'invalid-argument',
      'not finite',
    ],
    ['images with alpha', () => tokenizer.encode(images(1, 4, 16, 16)), 'shape', '[1, 4, 16, 16]'],
    ['images that are not square', () => tokenizer.encode(images(1, 3, 16, 12)), 'shape', '[B, 3, S, S]'],
    [
      'bytes for images',
      () => tokenizer.encode({ type: 'uint8', data: new Uint8Array(48), dims: [1, 3, 4, 4] } as never),
      'shape',
      'uint8',
    ],
    [
      'sides that patches do not fill',
      () => tokenizer.encode(images(1, 3, 10, 10)),
      'invalid-argument',
      'is 10',
    ],
    [
      'fewer tokens than the causal ones',
      () => tokenizer.encode(images(1, 3, 16, 16), { tokens: 2 }),
      'invalid-argument',
      'from 4 to 8',
    ],
    [
      'half a group',
      () => tokenizer.encode(images(1, 3, 16, 16), { tokens: 5 }),
      'invalid-argument',
      'multiple of 2',
    ],
    [
      'more tokens than there are',
      () => tokenizer.encode(images(1, 3, 16, 16), { tokens: 10 }),
      'invalid-argument',
      'is 10',
    ],
    [
      'codes beyond the codebook',
      () => tokenizer.decode(codes(0, 12)),
      'invalid-argument',
      '12 at position 1',
    ],
    ['negative codes', () => tokenizer.decode(codes(-1)), 'invalid-argument', 'codes'],
    [
      'float codes',
      () => tokenizer.decode(new Tensor('float32', new Float32Array(8), [1, 8]) as never),
      'shape',
      'int32',
    ],
    [
      'codes without batch',
      () => tokenizer.decode(new Tensor('int32', new Int32Array(8), [8])),
      'shape',
      '[B, n]',
    ],
    ['no tokens', () => tokenizer.decode(codes(1, 2), { tokens: 0 }), 'invalid-argument', '1 to 2'],
    [
      'more tokens than given',
      () => tokenizer.decode(codes(1, 2), { tokens: 3 }),
      'invalid-argument',
      '1 to 2',
    ],
    [
      'more codes than tokens',
      () => tokenizer.decode(codes(...new Array(9).fill(0))),
      'invalid-argument',
      '1 to 8',
    ],
    [
      'sizes that patches do not fill',
      () => tokenizer.decode(codes(1), { size: 6 }),
      'invalid-argument',
      'size is 6',
    ],
    [
      'noise inside a group',
      () => tokenizer.encodeCorrected(images(1, 3, 16, 16), { noiseIndex: 5 }),
      'invalid-argument',
      'a multiple of 2 below',
    ],
    [
      'noise after the end',
      () => tokenizer.encodeCorrected(images(1, 3, 16, 16), { noiseIndex: 6, tokens: 6 }),
      'invalid-argument',
      'below 6',
    ],
    [
      'ranks of other codes',
      () =>
        tokenizer.encodeCorrected(images(1, 3, 16, 16), {
          noiseIndex: 0,
          ranks: codes(0, 0, 0, 0, 0, 0, 0, 12),
        }),
      'invalid-argument',
      'ranks: 12',
    ],
    [
      'ranks of other images',
      () => tokenizer.encodeCorrected(images(1, 3, 16, 16), { noiseIndex: 0, ranks: codes(0) }),
      'shape',
      'int32 [1, 8]',
    ],
  ])('%s', async (_, call, code, text) => {
    await expect(call()).rejects.toMatchObject({ code, message: expect.stringContaining(text) });
  });

  test('noise, where the model was trained without', async () => {
    const plain = make({ ...config, correction: false });
    await expect(plain.encodeCorrected(images(1, 3, 16, 16), { noiseIndex: 0 })).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining('refine_conv'),
    });
    expect((await plain.encode(images(1, 3, 16, 16))).dims).toEqual([1, 8]);
  });

  test('weights that do not fit', () => {
    const weights = new Map([...weightsOf(config)].filter(([name]) => name !== 'quant_conv.bias'));
    expect(() =>
      createTokenizer({ config, weights, backend: createReferenceBackend(), file: 't.pt' }),
    ).toThrow(
      expect.objectContaining({
        code: 'weights',
        file: 't.pt',
        message: expect.stringContaining('quant_conv.bias'),
      }),
    );
  });
});

test('disposing ends it all, also where nothing could be compiled', async () => {
  const used = make();
  await used.decode(codes(1));
  await used.dispose();
  await used.dispose();
  await expect(used.decode(codes(1))).rejects.toMatchObject({ code: 'closed' });
  await expect(used.encode(images(1, 3, 16, 16))).rejects.toMatchObject({ code: 'closed' });

  const failing = make(config, {
    ...createReferenceBackend(),
    compile: () => Promise.reject(new Error('no device')),
  });
  await expect(failing.decode(codes(1))).rejects.toThrow('no device');
  await failing.dispose();
});
