import { writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cliFailure, cliJson, inRepository, npy, saveNpy, testFolder } from '../../../../tests/cli';
import { expectClose, floats, golden } from '../../../../tests/golden';

const at = testFolder();
const model = (kind: string) => ['--model', inRepository(`tests/fixtures/golden/family/softvq/${kind}`)];
const values = golden('family/softvq/golden.safetensors');
const images = saveNpy(at('images.npy'), floats(values.images), values.images.shape);
const [batch] = values.images.shape;

describe.each(['softvq', 'kl', 'ae'])('continuous latents: %s', (kind) => {
  test('encode, decode and reconstruct', async () => {
    const latents = at(`${kind}.npy`);
    const report = await cliJson('encode', ...model(kind), images, '--out', latents);
    const [count, tokens, width] = report.shape;
    expect([count, tokens, width]).toEqual([batch, 16, 12]);
    expect((await npy(latents)).dtype).toBe('float32');
    const out = at(`${kind}-pixels.npy`);
    await cliJson('decode', ...model(kind), latents, '--out', out);
    const { data, shape } = await npy(out);
    expect(shape).toEqual(values.images.shape);
    const strips = await cliJson('reconstruct', ...model(kind), images, '--out', at(`${kind}-strips`));
    for (const { steps } of strips.images) expect(steps).toMatchObject([{ tokens: 16, resolution: 32 }]);
    // What is restored in two calls is what one call restores.
    const squares = (data as Float32Array).slice(0, 3 * 32 * 32).map((x, i) => {
      const shown = Math.min(255, Math.max(0, Math.trunc(127.5 * x + 128))) / 127.5 - 1;
      return (shown - floats(values.images)[i]) ** 2;
    });
    const mse = squares.reduce((a, b) => a + b, 0) / squares.length;
    expect(strips.images[0].steps[0].psnr).toBeCloseTo(10 * Math.log10(4 / mse), 1);
  });
});

test('the latents are the golden ones', async () => {
  const latents = at('golden.npy');
  await cliJson('encode', ...model('softvq'), images, '--out', latents);
  expectClose((await npy(latents)).data as Float32Array, floats(values['soft.quant']));
});

test('a tokenizer of codes has codes', async () => {
  const codes = at('codes.npy');
  await cliJson('encode', ...model('vq'), images, '--out', codes);
  expect(await npy(codes)).toMatchObject({ dtype: 'int32', shape: [batch, 16] });
  await cliJson('decode', ...model('vq'), codes, '--out', at('vq-pixels.npy'));
  expect((await npy(at('vq-pixels.npy'))).shape).toEqual(values.images.shape);
});

test('eval tokenizer: figures without codes', async () => {
  const data = ['--data', 'shapes:24x32', '--all-images', '--count', '6'];
  const figures = await cliJson('eval', 'tokenizer', ...model('softvq'), ...data, '--out', at('eval'));
  expect(figures).toMatchObject({ images: 6, restorations: [{ tokens: 16, size: 32 }] });
  expect(Number.isFinite(figures.restorations[0].psnr)).toBe(true);
  expect(figures.usage).toBeUndefined();
});

test('what latents cannot', async () => {
  const soft = model('softvq');
  const pair = ['--class', '1', '--out', at('never.png')];
  expect(await cliFailure(1, 'generate', ...soft, ...pair)).toMatch(/no AR part/);
  const never = ['--out', at('never.npy')];
  expect(await cliFailure(2, 'encode', ...soft, images, '--tokens', '3', ...never)).toMatch(/all 16/);
  expect(await cliFailure(1, 'decode', ...soft, images, ...never)).toMatch(
    /images\.npy.*float32 \[B, 16, 12\]/,
  );
  const strips = ['--out', at('never')];
  expect(await cliFailure(2, 'reconstruct', ...soft, images, '--tokens', '1,16', ...strips)).toMatch(
    /all 16/,
  );
  const ar = inRepository('tests/fixtures/golden/family/llamagen/gpt_c2i');
  const both = ['--tokenizer', soft[1], '--ar', ar];
  expect(await cliFailure(1, 'inspect', ...both)).toMatch(/gpt_c2i.*softvq.*continuous/);
});

test("a tokenizer of ours that was trained with SoftVQ's quantiser", async () => {
  const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
  const sizes = { imageSize: 8, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 };
  const settings = {
    preset: 'tiny-32',
    tokenizer: {
      model: { ...sizes, encoder: tower, decoder: tower, correction: false, mixture: { temperature: 0.2 } },
      ...{ steps: 4, batch: 4, microBatch: 2, warmup: 1, correction: 0 },
    },
    tokenModel: { model: { dim: 8, heads: 2 } },
    validation: { every: 4, images: 8 },
  };
  const file = at('mixture.json');
  writeFileSync(file, JSON.stringify(settings));
  const train = ['--config', file, '--data', 'shapes:40x8'];
  expect(await cliFailure(1, 'train', 'all', ...train, '--out', at('never'))).toMatch(/mixture.*no AR model/);
  await cliJson('train', 'tokenizer', ...train, '--out', at('run'));
  const bundle = ['--model', at('run/bundle')];
  const pictures = saveNpy(at('small.npy'), new Float32Array(2 * 3 * 64).fill(0.5), [2, 3, 8, 8]);
  const latents = at('small-latents.npy');
  expect((await cliJson('encode', ...bundle, pictures, '--out', latents)).shape).toEqual([2, 6, 4]);
  await cliJson('decode', ...bundle, latents, '--out', at('small-pixels.npy'));
  expect((await npy(at('small-pixels.npy'))).shape).toEqual([2, 3, 8, 8]);
  const { images } = await cliJson('reconstruct', ...bundle, pictures, '--out', at('small-strips'));
  expect(images[0].steps.length).toBeGreaterThan(2); // an order, as codes have
  const back = ['--layout', 'released', '--out', at('never')];
  expect(await cliFailure(1, 'convert', ...bundle, ...back)).toMatch(/no released layout/);
});
