import { readFileSync } from 'node:fs';
import { type Backend, bytesSource, resizeImages, Tensor } from '@detailflow/core';
import { evenlySpaced, openNpz, subset } from '@detailflow/data';
import { openDataset, readImages } from '@detailflow/data/node';
import { firstPictureSeeds, imageTensor } from '@detailflow/eval';
import { createTokenizer, encodedSizes, type Tokenizer } from '@detailflow/tokenizer';
import { load, type OpenedModel, openModel } from 'detailflow';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  codeRows,
  cut,
  inRepository,
  npy,
  pixels,
  saveNpy,
  testFolder,
} from './cli';
import { openDevice } from './devices';
import { expectClose } from './golden';
import { numbers } from './numbers-by-formula';

// Every command that takes a size, with the official tokenizer of many sizes (golden configuration S, up to 96 pixels): what it writes
// is what the reference interpreter computes.

const at = testFolder();
const folder = (half: string) => inRepository(`tests/fixtures/golden/S/${half}`);
const [only, both] = [
  ['--tokenizer', folder('tokenizer')],
  ['--tokenizer', folder('tokenizer'), '--ar', folder('ar')],
];
/** Sides of pictures and their tokens; the AR model draws the 24 of 64 pixels. */
const list = { 16: 4, 32: 12, 48: 16, 64: 24, 80: 32, 96: 48 };

let opened: OpenedModel;
let backend: Backend;
let tokenizer: Tokenizer;
beforeAll(async () => {
  opened = await openModel({ tokenizer: folder('tokenizer') });
  backend = await openDevice('reference');
  tokenizer = createTokenizer({ ...opened.tokenizer, backend });
  const smooth = sharp(Buffer.from(numbers('picture', 7 * 7 * 3).map((x) => 127.5 + 127 * x)), {
    raw: { width: 7, height: 7, channels: 3 },
  });
  await smooth.resize(110, 110, { kernel: 'cubic' }).png().toFile(at('picture.png'));
});
afterAll(async () => {
  await tokenizer.dispose();
  await opened.close();
});

const seen = (size: number) => readImages([at('picture.png')], size, {});
const codesAt = async (size: number) => tokenizer.atSize(size).encode(await seen(size));
const bytes = (values: ArrayLike<number>) =>
  Array.from(values, (x) => Math.trunc(Math.min(255, Math.max(0, 127.5 * x + 128))));

/** RGB bytes of a picture [1, 3, S, S], as they are written. */
function rgb({ data, dims }: Tensor): number[] {
  const plane = dims[2] * dims[3];
  const flat = bytes(data as Float32Array);
  return Array.from({ length: 3 * plane }, (_, i) => flat[(i % 3) * plane + Math.floor(i / 3)]);
}

/** Rounding may put a value on the other side of a whole number. */
function expectSamePicture(found: ArrayLike<number>, expected: readonly number[]): void {
  expect(found.length).toBe(expected.length);
  const off = Array.from(found, (x, i) => Math.abs(x - expected[i]));
  expect(Math.max(...off)).toBeLessThanOrEqual(1);
  expect(off.filter((x) => x > 0).length).toBeLessThan(0.01 * off.length);
}

test('the list', () => {
  const sizes = encodedSizes(tokenizer.resolutions);
  const found = sizes.map((size) => [size, tokenizer.resolutions.decResToBestToken.get(size)]);
  expect(Object.fromEntries(found)).toEqual(list);
});

describe('codes', () => {
  test.each(Object.entries(list))('of %s pixels: encode, and decode at that size', async (text, tokens) => {
    const size = Number(text);
    const out = at(`codes-${size}.npy`);
    const { shape } = await cliJson('encode', ...only, '--size', text, at('picture.png'), '--out', out);
    expect(shape).toEqual([1, tokens]);
    const codes = await codesAt(size);
    expect(await codeRows(out)).toEqual([[...codes.data]]);
    if (size % 48 === 16) return; // two sizes of three are enough for pixels
    const file = at(`pixels-${size}.npy`);
    await cliJson('decode', ...only, out, '--size', text, '--out', file);
    const expected = await tokenizer.decode(codes, { size });
    const found = await npy(file);
    expect(found.shape).toEqual([1, 3, size, size]);
    expectClose(Array.from(found.data, Number), expected.data);
  });

  test('are decoded at any multiple of the patch, from fewer of them too', async () => {
    const codes = await codesAt(64);
    for (const [more, options, side] of [
      [['--size', '112'], { size: 112 }, 112],
      [['--tokens', '12', '--size', '16'], { tokens: 12, size: 16 }, 16],
      [[], {}, 64],
    ] as const) {
      await cliJson('encode', ...only, '--size', '64', at('picture.png'), '--out', at('64.npy'));
      await cliJson('decode', ...only, at('64.npy'), ...more, '--out', at('64-pixels.npy'));
      const found = await npy(at('64-pixels.npy'));
      expect(found.shape).toEqual([1, 3, side, side]);
      expectClose(Array.from(found.data, Number), (await tokenizer.decode(codes, options)).data);
    }
  });
});

test('reconstruct: every step of a smaller picture, at its worth', async () => {
  const { images } = await cliJson(
    ...[
      'reconstruct',
      ...only,
      '--size',
      '80',
      '--tokens',
      '4,12,32',
      at('picture.png'),
      '--out',
      at('strips'),
    ],
  );
  const original = await seen(80);
  const codes = await codesAt(80);
  const steps: { tokens: number; resolution: number; psnr: number }[] = images[0].steps;
  expect(steps.map(({ tokens, resolution }) => [tokens, resolution])).toEqual([
    [4, tokenizer.resolution(4)],
    [12, tokenizer.resolution(12)],
    [32, 80],
  ]);
  const full = await tokenizer.decode(codes, { size: 80 });
  expectSamePicture(await cut(at('strips/picture.png'), 2 + 2 * 82, 2, 80), rgb(full));
  expectSamePicture(await cut(at('strips/picture.png'), 2 + 3 * 82, 2, 80), rgb(original));
  expect(steps[2].psnr).toBeCloseTo(psnrOf(full.data, original.data), 2);
});

/** Of pictures as they are written, on [-1, 1]. */
function psnrOf(restored: ArrayLike<number>, original: ArrayLike<number>): number {
  const shown = bytes(restored).map((byte) => byte / 127.5 - 1);
  const sum = shown.reduce((total, x, i) => total + (x - original[i]) ** 2, 0);
  return -10 * Math.log10(sum / shown.length / 4);
}

test('vary: variations that keep all tokens, decoded larger, and resized', async () => {
  const keep = ['--keep', '24', '--count', '1'];
  await cliJson('vary', ...both, at('picture.png'), ...keep, '--size', '96', '--out', at('large.png'));
  const found = await pixels(at('large.png'));
  expect([found.width, found.height]).toEqual([2 + 2 * 98, 100]);
  const codes = await codesAt(64);
  const large = await tokenizer.decode(codes, { size: 96 });
  expectSamePicture(await cut(at('large.png'), 100, 2, 96), rgb(large));

  const shown = ['--size', '96', '--eval-size', '72'];
  await cliJson('vary', ...both, at('picture.png'), ...keep, ...shown, '--out', at('shown.png'));
  const resized = resizeImages(large.data, large.dims, { height: 72, width: 72 }, 'bicubic');
  expectSamePicture(
    await cut(at('shown.png'), 76, 2, 72),
    rgb(new Tensor('float32', resized, [1, 3, 72, 72])),
  );
});

test('eval tokenizer: figures of smaller pictures, compared at another size', async () => {
  const data = ['--data', 'shapes:12x48', '--all-images', '--count', '4', '--tokens', '16'];
  const { whole } = await openDataset('shapes:12x48', { heldOut: 0.25, seed: 0 });
  const dataset = subset(whole as never, evenlySpaced(12, 4), 'some');
  const view = { size: 48, fit: 'crop', background: [255, 255, 255] } as const;
  const images = await imageTensor(dataset, view, 0, 4);
  const restored = await tokenizer.decode(await tokenizer.atSize(48).encode(images), { size: 48 });
  for (const evalSize of [undefined, 40]) {
    const more = evalSize === undefined ? [] : ['--eval-size', `${evalSize}`];
    const { restorations } = await cliJson(
      ...['eval', 'tokenizer', ...only, ...data, '--size', '48', ...more, '--out', at(`eval-${evalSize}`)],
    );
    const side = evalSize ?? 48;
    const at40 = (x: Tensor) =>
      evalSize === undefined
        ? (x.data as Float32Array)
        : resizeImages(x.data as Float32Array, x.dims, { height: side, width: side }, 'bicubic').map((v) =>
            Math.min(1, Math.max(-1, v)),
          );
    const [a, b] = [at40(restored), at40(images)];
    const length = 3 * side * side;
    const each = Array.from({ length: 4 }, (_, i) =>
      psnrOf(a.subarray(i * length, (i + 1) * length), b.subarray(i * length, (i + 1) * length)),
    );
    expect(restorations).toMatchObject([{ tokens: 16, noiseIndex: null, size: side }]);
    expect(restorations[0].psnr).toBeCloseTo(each.reduce((x, y) => x + y) / 4, 2);
  }
});

describe('eval generation', () => {
  const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];
  const real = ['--data', 'shapes:12x64', '--all-images'];
  const [count, seed, cfg] = [6, 3, 2];
  let codes: Tensor<'int32'>;
  beforeAll(async () => {
    const model = await load({ tokenizer: folder('tokenizer'), ar: folder('ar') }, { backend });
    const labels = Array.from({ length: count }, (_, i) => i % (model.tokenModel?.classes as number));
    const [first] = firstPictureSeeds([seed], count);
    for await (const step of model.generate({ labels, seed: first, cfg })) codes = await step.tokens();
    await model.dispose();
  });

  const figures: Record<string, number> = {};
  test.each([
    [32, undefined],
    [undefined, 32],
    [48, 32],
    [96, 32],
  ])('of pictures decoded at %s and measured at %s', async (size, evalSize) => {
    const name = `gen-${size}-${evalSize}`;
    const sizes = Object.entries({ size, 'eval-size': evalSize });
    const given = sizes.flatMap(([option, value]) =>
      value === undefined ? [] : [`--${option}`, `${value}`],
    );
    const drawn = ['--count', `${count}`, '--seed', `${seed}`, '--cfg', `${cfg}`, '--save-images'];
    const { rows } = await cliJson(
      ...['eval', 'generation', ...both, ...real, ...network, ...drawn, ...given, '--out', at(name)],
    );
    // Pictures: the same codes, decoded and resized by hand.
    const side = evalSize ?? size ?? 64;
    const archive = at(`${name}/images-cfg${cfg}-seed${seed}.npz`);
    const arrays = await openNpz(bytesSource(readFileSync(archive)));
    expect(arrays.get('arr_0')?.shape).toEqual([count, side, side, 3]);
    const decoded = await tokenizer.decode(codes, { size: size ?? 64 });
    const resized =
      evalSize === undefined
        ? (decoded.data as Float32Array)
        : resizeImages(decoded.data as Float32Array, decoded.dims, { height: side, width: side }, 'bicubic');
    for (let i = 0; i < count; i++) {
      const one = resized.subarray(i * 3 * side * side, (i + 1) * 3 * side * side);
      const { data } = await arrays.get('arr_0')!.read(i, 1);
      expectSamePicture(Array.from(data, Number), rgb(new Tensor('float32', one, [1, 3, side, side])));
    }
    // Figures: those of the same pictures as files, against real ones of that size.
    const compared = await cliJson(
      ...['eval', 'images', '--images', archive, ...real, ...network, '--size', `${side}`],
      ...['--out', at(`${name}-files`)],
    );
    expect(rows).toHaveLength(1);
    expect(rows[0].frechet).toBeCloseTo(compared.frechet, 4);
    figures[name] = rows[0].frechet;
  });

  test('all of them differ', () => expect(new Set(Object.values(figures)).size).toBe(4));
});

test('sizes that are not on the list are refused with the nearest ones, and nothing is written', async () => {
  const picture = at('picture.png');
  const some = saveNpy(at('some.npy'), new Int32Array(24), [1, 24]);
  const nearest = (size: string) => `images of ${size} pixels; the nearest`;
  for (const [args, message] of [
    [['encode', ...only, picture, '--size', '72'], `${nearest('72')} sizes are 64 and 80`],
    [['encode', ...only, picture, '--size', '8'], `${nearest('8')} size is 16`],
    [['reconstruct', ...only, picture, '--size', '97'], `${nearest('97')} size is 96`],
    [
      ['eval', 'tokenizer', ...only, '--data', 'shapes:12x48', '--size', '33'],
      `${nearest('33')} sizes are 32 and 48`,
    ],
    [['decode', ...only, some, '--size', '40'], '--size 40: give a multiple of the patch size 16'],
    [
      ['vary', ...both, picture, '--keep', '4', '--size', '72'],
      '--size 72: give a multiple of the patch size 16',
    ],
    [['encode', ...only, picture, '--size', 'NaN'], '--size "NaN"'],
    [['encode', ...only, picture, '--size', ''], '--size'],
    [['encode', ...only, picture, '--size', '-16'], '--size'],
    [['encode', ...only, picture, '--size', '1e9'], 'give a whole number from 1 to 65536'],
    [['encode', ...only, picture, '--size', '64', '--tokens', '5'], '--tokens 5: give a multiple of 4'],
    [['vary', ...both, picture, '--keep', '4', '--eval-size', '0'], '--eval-size'],
  ] as const) {
    const out = args[0] === 'encode' ? 'none.npy' : 'none';
    expect(await cliFailure(2, ...args, '--out', at(out)), args.join(' ')).toContain(message);
  }
});

describe('an AR model for smaller pictures', () => {
  const few = (name: string, value: unknown) => ['--set', `${name}=${JSON.stringify(value)}`];
  const learned = [
    ...few('tokenModel.model', { dim: 16, layers: 1, heads: 2 }),
    ...['steps', 'batch', 'microBatch'].flatMap((name) => few(`tokenModel.${name}`, 4)),
    ...few('tokenModel.warmup', 0),
    ...few('data.views', 'center'),
    ...few('validation', { every: 9, images: 4 }),
  ];
  const source = ['--init', folder('tokenizer'), '--data', 'shapes:24x48', ...only];
  const run = (out: string, ...more: string[]) => [
    'train',
    'all',
    ...source,
    '--out',
    at(out),
    ...learned,
    ...more,
  ];

  test('learns their tokens and draws them, from a bundle and from the official layout', async () => {
    const saved = ['--save-codes', at('official-codes')];
    await cliJson(...run('run', ...few('tokenModel.imageSize', 48), ...saved));
    const header = JSON.parse(readFileSync(at('run/codes/codes.json'), 'utf8'));
    expect(header.tokens).toBe(16);
    const beside = JSON.parse(readFileSync(at('official-codes/finetuned.json'), 'utf8'));
    expect(beside).toMatchObject({ ar_image_size: 48, ar_token_num: 16 });
    const made = await openModel(at('run/bundle'));
    expect([made.ar?.config.tokens, made.pictureSize]).toEqual([16, 48]);
    await made.close();
    const drawn = ['--class', '1', '--seed', '2'];
    const official = ['--tokenizer', at('run/official/tokenizer'), '--ar', at('run/official/ar')];
    for (const [i, way] of [['--model', at('run/bundle')], official].entries()) {
      const tokens = ['--save-tokens', at(`${i}.npy`)];
      await cliJson('generate', ...way, ...drawn, ...tokens, '--out', at(`${i}.png`));
    }
    const [codes] = await codeRows(at('0.npy'));
    expect(codes).toHaveLength(16);
    expect(await codeRows(at('1.npy'))).toEqual([codes]);
    const picture = await tokenizer.decode(new Tensor('int32', Int32Array.from(codes), [1, 16]), {
      size: 48,
    });
    expectSamePicture((await pixels(at('0.png'))).data, rgb(picture));

    // Codes of 48 pixels teach no model of 64.
    const codesOf48 = ['--codes', at('official-codes')];
    const wrong = await cli(run('other', ...few('tokenModel.imageSize', 64), ...codesOf48));
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/ar_image_size: is 48, the tokenizer and the settings need 64/);
    await cliJson(...run('again', ...few('tokenModel.imageSize', 48), ...codesOf48));
    expect(readFileSync(at('again/ar/log.jsonl'), 'utf8')).toBe(readFileSync(at('run/ar/log.jsonl'), 'utf8'));
  });

  test('of a size that is not on the list is refused before anything is done', async () => {
    for (const [size, message] of [
      [50, /50 pixels; the nearest sizes are 48 and 64/],
      [0, /imageSize/],
      ['', /imageSize/],
      [[48], /imageSize/],
    ] as const)
      expect(await cliFailure(1, ...run('none', ...few('tokenModel.imageSize', size)))).toMatch(message);
  });
});
