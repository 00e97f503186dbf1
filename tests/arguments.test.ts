// Wrong arguments, as a program without a compiler might give them: every one is a typed error of bounded length.
import { createTokenModel } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder, writeBundle } from '@detailflow/checkpoint/node';
import { DetailFlowError, exponentialNoise, reshape, Tensor, trace, weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { gridPicture, shapesDataset, trainingView } from '@detailflow/data';
import { openDataset } from '@detailflow/data/node';
import { ssim } from '@detailflow/eval';
import { toOnnx } from '@detailflow/onnx';
import { generate, sampleTokens, vary } from '@detailflow/sampler';
import { createPictureBatch } from '@detailflow/sampler/batch';
import { createTokenizer } from '@detailflow/tokenizer';
import { TokenizerTrainer } from '@detailflow/train';
import { train } from '@detailflow/train/node';
import { convert, exportOnnx, load, type Model, pictureFromPixels, readImage, readImages } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// biome-ignore lint/suspicious/noExplicitAny: what no compiler would let through is the point
type Wrong = any;

const million = new Float32Array(1e6).fill(0.25);
const list = [...million];
const images = new Tensor('float32', new Float32Array(3 * 32 * 32), [1, 3, 32, 32]);
const none = new Tensor('float32', new Float32Array(0), [0, 3, 32, 32]);
let model: Model & Wrong;
beforeAll(async () => {
  model = await load('@detailflow/model-fashion-32');
});
afterAll(() => model.dispose());

const first = async (steps: AsyncIterable<unknown>) => {
  for await (const step of steps) return step;
};

/** What a call throws, at once or later. */
async function failure(call: () => unknown): Promise<DetailFlowError> {
  try {
    await call();
  } catch (error) {
    expect(DetailFlowError.isInstance(error), `${error}`.slice(0, 300)).toBe(true);
    expect((error as Error).message.length).toBeLessThan(500);
    return error as DetailFlowError;
  }
  throw new Error('nothing was refused');
}

const reference = createReferenceBackend();
const graph = trace((g) => ({ y: g.input('x', 'f32', [2]) }));

describe('unknown options', () => {
  const nonsense = { tempreature: 1 } as Wrong;
  test.each<[string, () => unknown]>([
    ['load', () => load('x', nonsense)],
    ['convert', () => convert('x', 'y', nonsense)],
    ['exportOnnx', () => exportOnnx('x', 'y', nonsense)],
    ['readImages', () => readImages([], 32, nonsense)],
    ['generate of a model', () => model.generate({ labels: [1], ...nonsense })],
    ['vary of a model', () => model.vary(images, { keepTokens: 1, ...nonsense })],
    ['encode', () => model.encode(images, nonsense)],
    ['begin', () => model.tokenModel.begin([1], nonsense)],
    ['beginDrawing', () => model.tokenModel.beginDrawing([1], { isGuided: false, ...nonsense })],
    ['predict', async () => (await model.tokenModel.begin([1])).predict(undefined, nonsense)],
    [
      'predict of a pool',
      async () => {
        const pool = await model.tokenModel.openPool({ rows: 1 });
        await pool.predict([{ member: pool.begin([1]) }], nonsense).finally(() => pool.dispose());
      },
    ],
    ['decode', () => model.decode(images, nonsense)],
    ['reconstruct', () => first(model.reconstruct(images, nonsense))],
    ['generate', () => first(generate(nonsense))],
    ['sampleTokens', () => first(sampleTokens(nonsense))],
    ['vary', () => first(vary(images, nonsense))],
    ['createTokenizer', () => createTokenizer(nonsense)],
    ['createTokenModel', () => createTokenModel(nonsense)],
    ['createNodeBackend', () => createNodeBackend(nonsense)],
    ['compile', () => reference.compile(graph, new Map(), nonsense)],
    ['compile of the model backend', () => model.backend.compile(graph, new Map(), nonsense)],
    ['run', async () => (await reference.compile(graph, new Map())).run({}, nonsense)],
    ['writeBundle', () => writeBundle('x', {} as Wrong, nonsense)],
    ['gridPicture', () => gridPicture([], nonsense)],
    ['shapesDataset', () => shapesDataset(nonsense)],
    ['trainingView', () => trainingView({} as Wrong, nonsense)],
    ['openDataset', () => openDataset('x', nonsense)],
    ['ssim', () => ssim(million, million, nonsense)],
    ['toOnnx', () => toOnnx(graph, nonsense)],
    ['exponentialNoise', () => exponentialNoise(nonsense)],
    ['TokenizerTrainer.create', () => TokenizerTrainer.create(nonsense)],
    ['train', () => train(nonsense)],
  ])('of %s', async (_, call) => {
    const { code, message } = await failure(call);
    expect(code).toBe('invalid-argument');
    expect(message).toMatch(/has no option "tempreature"; (did you mean "temperature"\?|there are )/);
  });
});

describe('a signal that is none', () => {
  const wrong = { signal: 'stop' } as Wrong;
  test.each<[string, () => unknown]>([
    ['load', () => load('@detailflow/model-fashion-32', wrong)],
    ['readImages', () => readImages(['a.png'], 32, wrong)],
    ['encode', () => model.encode(images, wrong)],
    ['decode', () => model.decode(new Tensor('int32', [1], [1, 1]), wrong)],
    ['reconstruct', () => first(model.reconstruct(images, wrong))],
    ['generate', () => first(model.generate({ labels: [1], ...wrong }))],
    ['vary', () => first(model.vary(images, { keepTokens: 8, ...wrong }))],
    ['sampleTokens', () => first(sampleTokens({ labels: [1], ...wrong }))],
    ['begin', () => model.tokenModel.begin([1], wrong)],
    ['writeBundle', () => writeBundle('x', {} as Wrong, wrong)],
    ['run', async () => (await reference.compile(graph, new Map())).run({}, wrong)],
  ])('of %s', async (_, call) => {
    const { code, message } = await failure(call);
    expect(code).toBe('invalid-argument');
    expect(message).toMatch(/the signal of \w+ is "stop"; give an AbortSignal/);
  });

  test('none at all, as fetch takes it', async () => {
    expect((await model.encode(images, { signal: null })).dims).toEqual([1, 64]);
  });
});

describe('a model that is missing', () => {
  const tokenizer = { tokens: 4 } as Wrong;
  test.each<[string, () => unknown, string]>([
    ['generate', () => first(generate({ labels: [1], tokenizer } as Wrong)), 'model'],
    ['generate', () => first(generate({ labels: [1], model: model.tokenModel } as Wrong)), 'tokenizer'],
    ['vary', () => first(vary(images, { keepTokens: 1, tokenizer } as Wrong)), 'model'],
    ['vary', () => first(vary(images, { keepTokens: 1, model: model.tokenModel } as Wrong)), 'tokenizer'],
    ['sampleTokens', () => first(sampleTokens({ labels: [1] } as Wrong)), 'model'],
    ['createPictureBatch', () => createPictureBatch({} as Wrong), 'model'],
  ])('%s', async (_, call, what) => {
    expect((await failure(call)).message).toMatch(new RegExp(`^the ${what} is missing; give one`));
  });
});

describe('wrong and swapped arguments', () => {
  test.each<[string, () => unknown, RegExp]>([
    ['no options', () => model.generate(), /options of generate are missing/],
    ['labels by themselves', () => model.generate([1]), /options of generate are \[1\]; give an object/],
    ['one label', () => model.generate({ labels: 9 }), /labels are 9; give a list/],
    ['a class nobody knows', () => model.generate({ labels: ['boots'] }), /"boots" is the name of no class/],
    ['a class out of range', () => first(model.generate({ labels: [11] })), /11; give class numbers 0\.\.10/],
    ['pictures as labels', () => first(model.generate({ labels: list })), /0\.25; give class numbers/],
    [
      'pictures as seed',
      () => first(model.generate({ labels: [1], seed: list })),
      /seed is a list of 1000000/,
    ],
    ['a text as seed', () => first(model.generate({ labels: [1], seed: '7' })), /seed is "7"/],
    ['a text as cfg', () => first(model.generate({ labels: [1], cfg: '2' })), /cfg is "2"/],
    [
      'an array as prefix',
      () => first(model.generate({ labels: [1], prefix: million })),
      /prefix is a Float32/,
    ],
    ['an array as noise', () => first(model.generate({ labels: [1], noise: million })), /noise is a Float32/],
    ['no images', () => model.encode(none), /images are float32 \[0, 3, 32, 32\]; give .* B from 1/],
    ['no images: vary', () => first(model.vary(none, { keepTokens: 1 })), /give .* B from 1/],
    ['no images: reconstruct', () => first(model.reconstruct(none)), /give .* B from 1/],
    ['one class by itself', () => model.tokenModel.begin(3), /labels are 3; give a list/],
    ['an array of pixels', () => model.encode(million), /images are a Float32Array of 1000000 values/],
    ['codes for images', () => model.encode(new Tensor('int32', [1], [1, 1])), /images are int32 \[1, 1\]/],
    ['images for codes', () => model.decode(images), /codes are float32 \[1, 3, 32, 32\]/],
    ['nothing', () => model.decode(), /codes are missing/],
    ['swapped: vary', () => first(model.vary({ keepTokens: 1 }, images)), /no option "|options of vary/],
    ['an array: vary', () => first(model.vary(million, { keepTokens: 8 })), /the images are a Float32Array/],
    ['a text for images', () => first(model.reconstruct('a.png')), /images are "a\.png"/],
    ['swapped: readImages', () => readImages(32 as Wrong, ['a.png'] as Wrong), /size is a list of 1 items/],
    ['no list: readImages', () => readImages('a.png' as Wrong, 32), /image files are "a\.png"; give a list/],
    ['pixels: readImages', () => readImages([million] as Wrong, 32), /is a Float32Array of 1000000 values/],
    ['an array: readImage', () => readImage(list as Wrong, 32), /is a list of 1000000 items/],
    ['pixels: pictureFromPixels', () => pictureFromPixels(million as Wrong), /a Float32Array of 1000000/],
    ['swapped: weight', () => weightFromArray('w', million as Wrong, [1e6] as Wrong), /give the shape, then/],
    [
      'swapped: constant',
      () => trace((g) => ({ y: g.constant([2] as Wrong, million as Wrong) })),
      /then its/,
    ],
    [
      'data for a shape',
      () => trace((g) => ({ y: g.input('x', 'f32', million as Wrong) })),
      /shape is a Float/,
    ],
    ['a list for a shape', () => trace((g) => ({ y: g.input('x', 'f32', list) })), /1000000 in all/],
    ['data to reshape to', () => trace((g) => ({ y: reshape(g.input('x', 'f32', [2]), list) })), /./],
    [
      'a feed of numbers',
      async () => (await reference.compile(graph, new Map())).run({ x: million } as Wrong),
      /x: /,
    ],
    ['a number for a model', () => load(7 as Wrong), /the model is 7; give a folder/],
    ['nothing for a model', () => load(undefined as Wrong), /the model is missing/],
    ['a package that is not there', () => load('@nobody/model'), /npm install @nobody\/model/],
    ['threads', () => createNodeBackend({ threads: list as Wrong }), /threads is a list of 1000000/],
    ['a device', () => createNodeBackend({ device: 'gpu' as Wrong }), /the device is "gpu"/],
  ])('%s', async (_, call, message) => {
    expect((await failure(call)).message).toMatch(message);
  });

  test('a folder that is not there', async () => {
    await failure(async () => readBundle(await openFolder('no/such/folder')));
  });
});

test('a class by its name is the class by its number', async () => {
  const tokens = async (label: number | string) => {
    let last: number[] = [];
    for await (const step of model.generate({ labels: [label], seed: 3, cfg: 1, tokens: 16 }))
      last = [...(await step.tokens()).data];
    return last;
  };
  expect(await tokens('Ankle boot')).toEqual(await tokens(9));
  const varied = async (label: number | string) => {
    let last: number[] = [];
    for await (const step of model.vary(images, { keepTokens: 8, labels: [label], cfg: 1 }))
      last = [...(await step.tokens()).data];
    return last;
  };
  expect(await varied('bag')).toEqual(await varied(8));
});
