import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { createTokenModel } from '@detailflow/ar-model';
import { type Backend, resizeMatrix, Tensor } from '@detailflow/core';
import { generate, vary } from '@detailflow/sampler';
import {
  attentionMask,
  createTokenizer,
  encoderGraph,
  type Tokenizer,
  type TokenizerConfig,
} from '@detailflow/tokenizer';
import { convert, type OpenedModel, openModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { refusal } from '../packages/checkpoint/src/test-files';
import { cliFailure, cliJson, inRepository, pixels as readPixels, testFolder } from './cli';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';

// Official checkpoints of the less usual options, from the files as the training scripts leave them: R was trained with
// REPA (projection.*, repa_model.*) and drop-path, S with images of many sizes, its AR model for the smaller ones. The
// graphs are those of tests/golden-*.test.ts; on WebGPU a smaller picture is drawn.

const tensor = ({ data, shape }: GoldenTensor): Tensor<'float32'> =>
  new Tensor('float32', data as Float32Array, shape);
const integers = ({ data, shape }: GoldenTensor): Tensor<'int32'> =>
  new Tensor('int32', data as Int32Array, shape);
const codes = (t: Tensor): number[] => Array.from(t.data as Int32Array);
const column = (index: GoldenTensor, at: number) => Array.from(index.data).filter((_, i) => i % 3 === at);

const at = testFolder();
const folder = (set: string) => ({
  tokenizer: inRepository(`tests/fixtures/golden/${set}/tokenizer`),
  ar: inRepository(`tests/fixtures/golden/${set}/ar`),
});

describe.each(['R', 'S'] as const)('golden values of configuration %s', (set) => {
  const values = golden(`${set}/golden_inference.safetensors`);
  const facts = goldenJson(`${set}/golden.json`);
  let opened: OpenedModel;
  beforeAll(async () => {
    opened = await openModel(folder(set));
  });
  afterAll(() => opened.close());

  test('what only training uses is known as such, and not read', () => {
    const names = [...opened.tokenizer.weights.keys()];
    expect(names.filter((name) => name.startsWith('projection.'))).toHaveLength(set === 'R' ? 6 : 0);
    expect(names.filter((name) => name.startsWith('repa_model.'))).toEqual([]);
    expect(opened.ar?.config.tokens).toBe(facts.ar_tokens);
    expect(opened.pictureSize).toBe(facts.config.image);
  });

  describe.each(set === 'R' ? devices.filter((device) => device !== 'webgpu') : devices)(
    'on the %s backend',
    (device) => {
      let backend: Backend;
      let tokenizer: Tokenizer;
      beforeAll(async () => {
        backend = await openDevice(device);
        tokenizer = createTokenizer({ ...opened.tokenizer, backend });
      });
      afterAll(() => backend.close());

      async function expectDecoded(name: string, given: GoldenTensor): Promise<void> {
        const [tokens, size] = (/dec\.t(\d+)\.r(\d+)$/.exec(name) as RegExpExecArray).slice(1).map(Number);
        const first = new Tensor('int32', (given.data as Int32Array).slice(0, given.shape[1]), [
          1,
          given.shape[1],
        ]);
        const pixels = await tokenizer.decode(first, { tokens, size });
        expect(pixels.dims).toEqual(values[name].shape);
        expectClose(floatsOf(pixels), floats(values[name]));
      }

      async function expectCorrected(
        images: Tensor<'float32'>,
        index: GoldenTensor,
        ranks: GoldenTensor,
        noiseIndex: number,
      ) {
        const [, tokens] = index.shape;
        const rows = await tokenizer.encodeCorrected(images, { tokens, noiseIndex, ranks: integers(ranks) });
        for (const [at, row] of [rows.clean, rows.input, rows.target].entries())
          expect(codes(row)).toEqual(column(index, at));
      }

      if (set === 'R') {
        test('codes, corrected codes and pixels', async () => {
          const images = tensor(values.images);
          expect(codes(await tokenizer.encode(images))).toEqual(Array.from(values['enc.indices'].data));
          await expectCorrected(images, values['train.noise16.index'], values.ranks, facts.config.noise);
          const { degraded_noise: noise } = facts.config;
          await expectCorrected(images, values['train.noise_degraded.index'], values.ranks, noise);
          await expectDecoded('dec.t32.r64', values['enc.indices']);
        });
      } else {
        test.skipIf(device === 'webgpu').each(facts.config.sizes as number[])(
          'images of %i pixels',
          async (size) => {
            const { n, noise_idx: noise } = facts.sizes[size];
            const name = (rest: string) => `dynamic.s${size}.${rest}`;
            const images = tensor(values[name('images')] ?? values['dynamic.images']);
            expect(images.dims[2]).toBe(size);
            expect(tokenizer.resolutions.decResToBestToken.get(size)).toBe(n);
            expectClose(await encoded(backend, opened, images, n), floats(values[name('h')]));
            const indices = values[name('indices')];
            expect(codes(await tokenizer.encode(images, { tokens: n }))).toEqual(Array.from(indices.data));
            await expectCorrected(images, values[name(`noise${noise}.index`)], values[name('ranks')], noise);
            const decoded = Object.keys(values).filter((key) => key.startsWith(name('dec.')));
            expect(decoded).toHaveLength(3);
            for (const key of decoded) await expectDecoded(key, indices);
          },
        );
      }

      test('greedy tokens, and pictures as large as the AR model draws them', async () => {
        const { config, weights } = opened.ar as NonNullable<OpenedModel['ar']>;
        const model = createTokenModel({ config, weights, backend });
        const labels = Array.from(values['gen.labels'].data);
        let found: number[] = [];
        let sizes: number[] = [];
        const steps = generate({ model, tokenizer, labels, greedy: true, cfg: facts.greedy.cfg_scale });
        for await (const step of steps) {
          if (step.count < step.total) continue;
          found = codes(await step.tokens());
          sizes = [step.resolution, ...(await step.pixels()).dims];
        }
        expect(found).toEqual(Array.from(values['gen.greedy.tokens'].data));
        const { image } = facts.config;
        expect(sizes).toEqual([image, 2, 3, image, image]);
      });

      test.skipIf(device === 'webgpu')(
        'variations of a picture keep its first tokens, as many as the AR model has',
        async () => {
          const { config, weights } = opened.ar as NonNullable<OpenedModel['ar']>;
          const model = createTokenModel({ config, weights, backend });
          const name = set === 'R' ? 'enc.indices' : `dynamic.s${facts.config.image}.indices`;
          const images = tensor(values[set === 'R' ? 'images' : `dynamic.s${facts.config.image}.images`]);
          const expected = Array.from(values[name].data);
          let all: number[] = [];
          for await (const step of vary(images, { model, tokenizer, keepTokens: model.tokens }))
            all = codes(await step.tokens());
          expect(all).toEqual(expected);
        },
      );
    },
  );
});

describe('an AR model of fewer tokens than its tokenizer', () => {
  const { tokenizer } = folder('S');

  test('as a bundle, and on the command line', async () => {
    const bundle = at('bundle');
    await convert(folder('S'), bundle);
    const opened = await openModel(bundle);
    expect([opened.ar?.config.tokens, opened.tokenizer.config.tokens, opened.pictureSize]).toEqual([
      24, 48, 64,
    ]);
    await opened.close();
    const model = ['--tokenizer', tokenizer, '--ar', folder('S').ar];
    for (const [name, ...source] of [
      ['official.png', ...model],
      ['bundle.png', '--model', bundle],
    ])
      await cliJson('generate', ...source, '--class', '3', '--seed', '4', '--out', at(name));
    const [first, second] = await Promise.all(
      ['official.png', 'bundle.png'].map((name) => readPixels(at(name))),
    );
    expect([first.width, first.height]).toEqual([64, 64]);
    expect(second).toEqual(first);
    await cliJson(
      'vary',
      ...model,
      '--keep',
      '24',
      '--count',
      '1',
      '--out',
      at('same.png'),
      at('official.png'),
    );
    const border = 2;
    expect((await readPixels(at('same.png'))).height).toBe(64 + 2 * border);
  });

  test('what belongs to another tokenizer is refused', async () => {
    // R's tokens are as many as S gives images of 80 pixels, and R says that it was trained for 64.
    const error = await refusal(() => openModel({ tokenizer, ar: folder('R').ar }));
    expect(error).toMatchObject({ code: 'config', entry: 'image_size' });
    expect(error.message).toMatch(/trained for 64 pixels.*those of 80 pixels/);
    const config = JSON.parse(readFileSync(`${folder('S').ar}/config.json`, 'utf8'));
    cpSync(folder('S').ar, at('ar'), { recursive: true });
    for (const tokens of [28, 52]) {
      writeFileSync(at('ar/config.json'), JSON.stringify({ ...config, block_size: tokens }));
      const other = await refusal(() => openModel({ tokenizer, ar: at('ar') }));
      expect(other.code).toBe('config');
      expect(other.message).toMatch(/do not belong together.* has 4, 12, 16, 24, 32, 48 tokens/);
      expect(other.message).toContain(`${tokens} tokens in groups`);
    }
  });
});

const floatsOf = (t: Tensor) => t.data as Float32Array;

/** What the encoder hands to the quantiser for the first n tokens. */
async function encoded(
  backend: Backend,
  opened: OpenedModel,
  images: Tensor,
  n: number,
): Promise<Float32Array> {
  const { config, weights } = opened.tokenizer;
  const encoder = await backend.compile(encoderGraph(config), weights);
  const { h } = await encoder.run(firstPass(config, images, n));
  await encoder.dispose();
  return floatsOf(h);
}

function firstPass(config: TokenizerConfig, images: Tensor, n: number): Record<string, Tensor> {
  const { groupSize, causalTokens, encoder } = config;
  const [batch, , size] = images.dims;
  const side = size / encoder.patchSize;
  const patches = side * side;
  const mask = attentionMask({
    ...{ patches, tokens: n, groupSize, causalTokens },
    ...{ patchesSeeLatents: false, latentsSeePatches: true },
  });
  const range = Int32Array.from({ length: n }, (_, i) => i);
  return {
    images,
    positions: new Tensor('int32', range, [n]),
    resize: new Tensor('float32', resizeMatrix('bilinear-antialias', encoder.positionGrid, side), [
      side,
      encoder.positionGrid,
    ]),
    visible: new Tensor('bool', mask, [patches + n, patches + n]),
    prefix: new Tensor('int32', new Int32Array(batch * n), [batch, n]),
    isPrefix: new Tensor('bool', new Uint8Array(n), [n]),
    second: new Tensor('bool', Uint8Array.of(0), [1]),
  };
}

describe('every size of the list on the command line', () => {
  const { tokenizer, ar } = folder('S');
  const model = ['--tokenizer', tokenizer, '--ar', ar];

  test('encode, decode, reconstruct and generate', async () => {
    await cliJson(
      'generate',
      ...model,
      '--class',
      '3',
      '--seed',
      '4',
      '--size',
      '96',
      '--out',
      at('large.png'),
    );
    expect((await readPixels(at('large.png'))).width).toBe(96);
    const shown = ['--size', '48', '--eval-size', '80'];
    await cliJson('generate', ...model, '--class', '3', '--seed', '4', ...shown, '--out', at('shown.png'));
    expect((await readPixels(at('shown.png'))).width).toBe(80);
    for (const [size, tokens] of [
      [48, 16],
      [64, 24],
      [96, 48],
    ]) {
      const encoded = await cliJson(
        ...[
          'encode',
          '--tokenizer',
          tokenizer,
          '--size',
          `${size}`,
          at('large.png'),
          '--out',
          at('codes.npy'),
        ],
      );
      expect(encoded.shape).toEqual([1, tokens]);
    }
    const strips = await cliJson(
      ...['reconstruct', '--tokenizer', tokenizer, '--size', '64', at('large.png'), '--out', at('strips')],
    );
    const steps: { tokens: number; resolution: number }[] = strips.images[0].steps;
    expect(steps.at(-1)).toMatchObject({ tokens: 24, resolution: 64 });
    expect(steps.map(({ tokens }) => tokens)).toEqual([1, 2, 4, 8, 16, 24]);
  });

  test('a size that is not on it is refused with the nearest ones', async () => {
    const wrong = (...args: string[]) => cliFailure(2, ...args);
    const out = ['--out', at('no.npy')];
    expect(await wrong('encode', '--tokenizer', tokenizer, '--size', '72', at('large.png'), ...out)).toMatch(
      /--size: .*72 pixels; the nearest sizes are 64 and 80/,
    );
    expect(await wrong('generate', ...model, '--class', '3', '--size', '50', '--out', at('no.png'))).toMatch(
      /--size 50: give a multiple of the patch size 16/,
    );
    const opened = await openModel({ tokenizer });
    const backend = await openDevice('cpu');
    const one = createTokenizer({ ...opened.tokenizer, backend });
    expect((await refusal(() => one.atSize(112))).message).toMatch(/nearest size is 96/);
    await backend.close();
    await opened.close();
  });
});
