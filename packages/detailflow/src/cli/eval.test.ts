import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { bytesSource } from '@detailflow/core';
import { openNpz } from '@detailflow/data';
import { beforeAll, describe, expect, test } from 'vitest';
import { cliFailure, cliJson, fashion, inRepository, pixels, testFolder } from '../../../../tests/cli';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];
const data = ['--data', 'shapes:60x32', '--all-images'];

interface Row {
  cfg: number;
  seed: number;
  firstSeed: number;
  frechet: number;
  precision: number;
  recall: number;
  kernelDistance: number;
  agreement: { all: number; byClass: number[] };
  warnings: string[];
}

describe('generated pictures', () => {
  let found: { rows: Row[]; summary: { cfg: number; frechet: { mean: number; spread: number } }[] };
  beforeAll(async () => {
    const args = ['--count', '40', '--cfg', '1,2', '--seed', '0,10', '--save-images', '--train'];
    found = (await cliJson(
      'eval',
      'generation',
      ...fashion,
      ...data,
      ...network,
      ...args,
      '--out',
      at('gen'),
    )) as never;
  });

  test('are compared at every scale with every seed', () => {
    expect(found.rows.map(({ cfg, seed }) => [cfg, seed])).toEqual([
      [1, 0],
      [1, 10],
      [2, 0],
      [2, 10],
    ]);
    for (const row of found.rows) {
      expect(row.frechet).toBeGreaterThan(0);
      expect(row.agreement.byClass).toHaveLength(10);
      expect(row.warnings.join()).toMatch(/40 images are too few/);
    }
    const [{ frechet }] = found.summary;
    expect(frechet.mean).toBeCloseTo((found.rows[0].frechet + found.rows[1].frechet) / 2, 9);
    expect(frechet.spread).toBeCloseTo(Math.abs(found.rows[0].frechet - found.rows[1].frechet) / 2, 9);
  });

  test('are written as arrays, image by image those that generate draws', async () => {
    const arrays = await openNpz(bytesSource(readFileSync(at('gen/images-cfg2-seed0.npz'))));
    expect(arrays.get('arr_0')?.shape).toEqual([40, 32, 32, 3]);
    expect([...(await arrays.get('arr_1')!.read()).data].slice(0, 12)).toEqual([
      ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1],
    ]);
    await cliJson(
      'generate',
      ...fashion,
      '--class',
      '3',
      '--seed',
      '13',
      '--cfg',
      '2',
      '--out',
      at('one.png'),
    );
    const row = await arrays.get('arr_0')!.read(13, 1);
    expect([...row.data]).toEqual([...(await pixels(at('one.png'))).data]);
  });

  test('of different seeds are different pictures, each of which generate draws, too', async () => {
    const drawn = await Promise.all(
      [0, 10].map(async (seed) => {
        const arrays = await openNpz(bytesSource(readFileSync(at(`gen/images-cfg2-seed${seed}.npz`))));
        return (await arrays.get('arr_0')!.read()).data as Uint8Array;
      }),
    );
    const length = 32 * 32 * 3;
    const all = drawn.flatMap((data) =>
      Array.from({ length: 40 }, (_, i) => data.subarray(i * length, (i + 1) * length).join()),
    );
    expect(new Set(all).size).toBe(80);
    expect(found.rows.map(({ firstSeed }) => firstSeed)).toEqual([0, 10_000_000, 0, 10_000_000]);
    const one = ['--class', '3', '--seed', '10000013', '--cfg', '2', '--out', at('two.png')];
    await cliJson('generate', ...fashion, ...one);
    const row = drawn[1].subarray(13 * length, 14 * length);
    expect([...row]).toEqual([...(await pixels(at('two.png'))).data]);
  });

  test('read from the file give the same figures; against themselves no distance', async () => {
    const images = ['--images', at('gen/images-cfg2-seed0.npz'), ...network];
    const other = (await cliJson(
      ...['eval', 'images', ...images, '--data', 'shapes:60x32', '--out', at('images')],
      ...['--save-statistics', at('statistics.npz')],
    )) as unknown as Row;
    const row = found.rows[2];
    for (const figure of ['frechet', 'precision', 'recall', 'kernelDistance'] as const) {
      expect(other[figure], figure).toBeCloseTo(row[figure], 9);
    }
    const itself = (await cliJson(
      ...['eval', 'images', ...images, '--data', at('gen/images-cfg2-seed0.npz'), '--out', at('itself')],
    )) as unknown as Row;
    expect([itself.precision, itself.recall]).toEqual([1, 1]);
    expect(Math.abs(itself.frechet)).toBeLessThan(1e-6);
    const statistics = (await cliJson(
      ...['eval', 'images', ...images, '--data', at('statistics.npz'), '--out', at('statistics')],
    )) as unknown as Row;
    expect(Math.abs(statistics.frechet)).toBeLessThan(1e-6);
    expect(statistics.precision).toBeUndefined();
  });

  test('are restored by the tokenizer: figures by tokens and by noise', async () => {
    const data = ['--data', at('gen/images-cfg2-seed0.npz'), '--all-images'];
    const args = ['--tokens', '1,8,32', '--noise', '0,16', '--count', '20', '--out', at('tok')];
    const { restorations, images } = (await cliJson(
      ...['eval', 'tokenizer', ...fashion, ...data, ...network, ...args],
    )) as unknown as {
      images: number;
      restorations: (Record<'tokens' | 'size' | 'psnr' | 'frechet', number> & {
        noiseIndex: number | null;
      })[];
    };
    expect(images).toBe(20);
    expect(restorations.map(({ tokens, noiseIndex }) => [tokens, noiseIndex])).toEqual([
      [1, null],
      [8, null],
      [32, null],
      [32, 0],
      [32, 16],
    ]);
    expect(restorations.map(({ size }) => size)).toEqual([4, 12, 32, 32, 32]);
    expect(restorations[2].frechet).toBeLessThan(restorations[0].frechet);
    for (const { psnr } of restorations) expect(psnr).toBeGreaterThan(8);
    expect(readFileSync(at('tok/tokenizer.html'), 'utf8')).toContain('PSNR in dB by number of tokens');
  });

  test('are shown on a page that needs nothing else', () => {
    const page = readFileSync(at('gen/generation.html'), 'utf8');
    for (const part of [
      'Fréchet distance by CFG',
      'Samples, CFG 2',
      'nearest training',
      '<h2>Classes</h2>',
    ]) {
      expect(page).toContain(part);
    }
    expect(page).not.toMatch(/(src|href)="(?!data:)/);
    expect(existsSync(at('gen/samples-cfg1.png'))).toBe(true);
  });
});

test('the evaluations of the paper', async () => {
  const args = ['--data', 'shapes:60x32', ...network, '--count', '12'];
  const noisy = (await cliJson(
    ...['eval', 'tokenizer', ...fashion, ...args, '--preset', 'noisy-rfid', '--out', at('noisy')],
  )) as unknown as { restorations: { tokens: number; noiseIndex: number | null }[] };
  // 32 tokens in 8 groups of 4: the first tokens of the groups 0, 2, 4, 6 and 7.
  expect(noisy.restorations.map(({ tokens, noiseIndex }) => [tokens, noiseIndex])).toEqual([
    [32, null],
    [32, 0],
    [32, 8],
    [32, 16],
    [32, 24],
    [32, 28],
  ]);
  const generated = (await cliJson(
    ...['eval', 'generation', ...fashion, ...args, '--preset', 'imagenet256-gfid', '--out', at('preset')],
    '--save-images',
  )) as unknown as { rows: Row[]; count: number; real: number; labels: string };
  expect([generated.rows.map(({ cfg }) => cfg), generated.count, generated.real]).toEqual([[1.5], 12, 60]);
  // Classes at random, as the official script draws them.
  expect(generated.labels).toBe('random');
  const arrays = await openNpz(bytesSource(readFileSync(at('preset/images-cfg1.5-seed0.npz'))));
  const drawn = [...(await arrays.get('arr_1')!.read()).data];
  expect(drawn).not.toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
});

test.each([
  [['generation', ...fashion, '--data', 'shapes:60x32'], /--features is missing/],
  [['tokenizer', ...fashion, ...data, '--cfg', '2'], /--cfg is for eval generation/],
  [['images', '--images', 'shapes:9x32', ...network], /give --data to compare with/],
  [['tokenizer', ...fashion, ...data, '--preset', 'imagenet256-gfid'], /measures a generation/],
  [['tokenizer', ...fashion, ...data, '--vgg', 'vgg.pth'], /--vgg and --lpips together/],
  [['everything'], /tokenizer, generation, images/],
  [['generation', ...fashion, ...data, ...network, '--seed', '3,3'], /--seed: seed 3 is given twice/],
  [['generation', ...fashion, ...data, ...network, '--seed', '9007199254'], /from 0 to 9007199253/],
  [['generation', ...fashion, ...data, ...network, '--labels', 'some'], /balanced, random/],
  [['generation', ...fashion, ...data, ...network, '--cfg', '2,2'], /--cfg: give different/],
])('%j is refused', async (args, message) => {
  expect(await cliFailure(2, 'eval', ...args, '--out', at('refused'))).toMatch(message);
});

describe('what was held out', () => {
  const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
  const settings = {
    ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
    data: { fit: 'pad', background: '#204060', heldOut: 0.2 },
    tokenizer: {
      model: {
        ...{ imageSize: 32, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
        ...{ encoder: tower, decoder: tower },
      },
      ...{ steps: 1, batch: 4, microBatch: 4, warmup: 0 },
    },
    tokenModel: { model: { dim: 16, layers: 1, heads: 2 } },
    validation: { every: 9, images: 4 },
  };
  let model: string[];
  beforeAll(async () => {
    writeFileSync(at('settings.json'), JSON.stringify(settings));
    const run = ['--config', at('settings.json'), '--data', 'shapes:80x28', '--out', at('run')];
    await cliJson('train', 'tokenizer', ...run);
    model = ['--model', at('run/bundle')];
  });
  const evaluate = (name: string, ...args: string[]) =>
    cliJson(
      'eval',
      'tokenizer',
      ...model,
      '--tokens',
      '8',
      ...args,
      '--out',
      at(name),
    ) as unknown as Promise<{
      images: number;
      note?: string;
      restorations: { psnr: number }[];
    }>;

  test('is the same in evaluation as in training, by the model alone', async () => {
    const { images, note, restorations } = await evaluate('same', '--data', 'shapes:80x28');
    const listed = JSON.parse(readFileSync(at('run/held-out.json'), 'utf8'));
    expect([images, note]).toEqual([listed.heldOut, undefined]);
    expect(listed.list).toHaveLength(images);
    // the background of the training, not the default
    const white = await evaluate('white', '--data', 'shapes:80x28', '--background', 'white');
    expect(white.restorations[0].psnr).not.toBe(restorations[0].psnr);
    const stated = await evaluate(
      'stated',
      '--data',
      'shapes:80x28',
      '--background',
      '#204060',
      '--fit',
      'pad',
    );
    expect(stated.restorations).toEqual(restorations);
  });

  test('of other images, or of a model that does not say, is said to be a guess', async () => {
    const { note } = await evaluate('other', '--data', 'shapes:90x28');
    expect(note).toMatch(/not what the model was trained with.*90 images.*then 80/);
    const args = ['--tokens', '1', '--data', 'shapes:40x32', '--out', at('unsaid')];
    const unsaid = (await cliJson('eval', 'tokenizer', ...fashion, ...args)) as unknown as { note: string };
    expect(unsaid.note).toMatch(/does not say which images it was trained with/);
    const all = await evaluate('all', '--data', 'shapes:90x28', '--all-images');
    expect([all.images, all.note]).toEqual([90, undefined]);
  });
});

test('copies are counted against held-out images', async () => {
  const args = ['--data', 'shapes:400x32', ...network, '--count', '12', '--cfg', '1', '--train'];
  const { copies } = (await cliJson(
    ...['eval', 'generation', ...fashion, ...args, '--out', at('copies')],
  )) as unknown as { copies: { share: number; looked: { drawn: number; heldOut: number } }[] };
  expect(copies).toHaveLength(1);
  expect(copies[0].looked.drawn).toBe(12);
  expect(copies[0].share).toBeLessThan(0.5); // clothes are no copies of shapes
});
