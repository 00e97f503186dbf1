import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  fashion,
  inRepository,
  npy,
  pixels,
  testFolder,
} from '../../../../tests/cli';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];
const fixture = (name: string) => inRepository(`tests/fixtures/images/${name}`);

interface Source {
  source: string;
  part: string;
  images: number;
  classes: number;
  unused: { reason: string; count: number; examples: string[] }[];
}

/** A set of two classes with pictures of every kind, damaged ones among them, a link in a circle, and other files. */
const sets = at('set');
const good = [
  'grey8.png',
  'palette8-alpha.png',
  'rgb-420.jpg',
  'clear.gif',
  'lossy.webp',
  'rgb565.bmp',
  'raw255.ppm',
];
beforeAll(() => {
  for (const label of ['a', 'b']) {
    mkdirSync(path.join(sets, label), { recursive: true });
    for (const name of good) copyFileSync(fixture(name), path.join(sets, label, name));
  }
  writeFileSync(path.join(sets, 'a/cut.jpg'), readFileSync(fixture('rgb-420.jpg')).subarray(0, 500));
  writeFileSync(path.join(sets, 'a/empty.png'), '');
  writeFileSync(path.join(sets, 'b/text.png'), 'text');
  writeFileSync(path.join(sets, 'b/notes.txt'), 'text');
  symlinkSync('..', path.join(sets, 'b/circle'));
  symlinkSync('nowhere.png', path.join(sets, 'b/gone.png'));
});

const reasons = [
  ['a link back to a folder that it lies in', 1, ['b/circle']],
  ['no image (.txt)', 1, ['b/notes.txt']],
  ['unreadable: a link to nothing', 1, ['b/gone.png']],
];
const broken = [
  ['unreadable: is empty', ['a/empty.png']],
  [expect.stringMatching(/^unreadable: is no image that can be decoded/), ['a/cut.jpg']],
  [expect.stringMatching(/^unreadable: is no image: neither PNG/), ['b/text.png']],
];

function expectAllReasons(unused: Source['unused']): void {
  const found = unused.map(({ reason, count, examples }) => [reason, count, examples]);
  expect(found).toHaveLength(reasons.length + broken.length);
  for (const one of reasons) expect(found).toContainEqual(one);
  for (const [reason, examples] of broken) expect(found).toContainEqual([reason, 1, examples]);
}

describe('eval', () => {
  test('measures the images that can be read, and says which others there are and why', async () => {
    const args = [
      'eval',
      'images',
      '--images',
      sets,
      ...network,
      '--data',
      'shapes:40x32',
      '--out',
      at('eval'),
    ];
    const report = (await cliJson(...args)) as unknown as { count: number; sources: Source[] };
    expect(report.count).toBe(14);
    const [own, shapes] = report.sources;
    expect([own.source, own.part, own.images, own.classes]).toEqual([sets, 'all', 14, 2]);
    expectAllReasons(own.unused);
    expect([shapes.images, shapes.unused]).toEqual([40, []]);
    const page = readFileSync(at('eval/images.html'), 'utf8');
    expect(page).toContain('14 images of 2 classes; 6 files were not used.');
    expect(page).toContain('b/gone.png');
    // Again, from what was kept: the same images, the same reasons.
    const { stdout } = await cli(args);
    expect(stdout).toContain(`${sets} (all): 14 images of 2 classes; 6 files not used:`);
    expect(stdout).toContain('1 x unreadable: is empty: a/empty.png');
  });

  test('of a tokenizer and of statistics, too', async () => {
    const model = ['eval', 'tokenizer', ...fashion, '--data', sets, '--all-images', '--tokens', '32'];
    const figures = (await cliJson(...model, '--out', at('tokenizer'))) as unknown as {
      images: number;
      sources: Source[];
    };
    expect(figures.images).toBe(14);
    expectAllReasons(figures.sources[0].unused);
    const statistics = ['eval', 'images', '--images', sets, ...network, '--save-statistics', at('mine.npz')];
    const { sources } = (await cliJson(...statistics, '--out', at('statistics'))) as unknown as {
      sources: Source[];
    };
    expectAllReasons(sources[0].unused);
  });
});

test('train says what it trains on before it begins, and at the end, on the page, and as data', async () => {
  const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
  const config = {
    preset: 'tiny-32',
    replicas: 1,
    data: { fit: 'crop', heldOut: 0.5, flip: false },
    tokenizer: {
      model: {
        ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
        ...{ encoder: tower, decoder: tower },
      },
      ...{ steps: 4, batch: 8, warmup: 1, correction: 0.5 },
    },
    tokenModel: {
      model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 },
      steps: 2,
      batch: 8,
      microBatch: 8,
      warmup: 1,
    },
    checkpoints: { every: 4, keep: 1 },
    validation: { every: 4, images: 4 },
  };
  writeFileSync(at('config.json'), JSON.stringify(config));
  const args = ['--config', at('config.json'), '--data', sets, '--out', at('run')];
  const tokenizer = await cli(['train', 'tokenizer', ...args]);
  expect(tokenizer.code, tokenizer.stderr).toBe(0);
  expect(tokenizer.stderr).toContain('17 images of 2 classes; 3 files not used:');
  expect(tokenizer.stderr).toContain('1 x unreadable: a link to nothing: b/gone.png');
  const codes = await cli(['train', 'codes', ...args, '--json']);
  expect(codes.code, codes.stderr).toBe(0);
  expect(codes.stderr).toMatch(/^\d+ of \d+ held-out images are among the training images, too/m); // all look alike
  const { data } = JSON.parse(codes.stdout) as { data: Source };
  expectAllReasons(data.unused);
  expect([data.images, data.classes]).toEqual([14, 2]);
  expect(JSON.parse(readFileSync(at('run/data.json'), 'utf8'))).toEqual(data);
  const page = readFileSync(at('run/report.html'), 'utf8');
  expect(page).toContain('14 images of 2 classes; 6 files were not used.');
});

describe('pictures that a person hands over', () => {
  test('are turned by their orientation', async () => {
    const picture = sharp({ create: { width: 32, height: 32, channels: 3, background: '#fff' } });
    const bar = { create: { width: 32, height: 8, channels: 3 as const, background: '#000' } };
    const upright = picture.composite([{ input: await sharp(bar).png().toBuffer(), left: 0, top: 0 }]);
    const pixelsOf = await upright.png().toBuffer();
    await sharp(pixelsOf).rotate(270).withMetadata({ orientation: 6 }).png().toFile(at('turned.png'));
    writeFileSync(at('upright.png'), pixelsOf);
    await cliJson('encode', ...fashion, at('turned.png'), at('upright.png'), '--out', at('turned.npy'));
    const { data, shape } = await npy(at('turned.npy'));
    expect([...data.slice(0, shape[1])]).toEqual([...data.slice(shape[1])]);
  });

  test('are laid on white, or on the colour of --background', async () => {
    const clear = { create: { width: 32, height: 32, channels: 4 as const, background: '#12345600' } };
    await sharp(clear).png().toFile(at('clear.png'));
    const original = async (...args: string[]) => {
      const report = await cliJson(
        'reconstruct',
        ...fashion,
        at('clear.png'),
        '--tokens',
        '1',
        ...args,
        '--out',
        at('laid'),
      );
      const { data, width } = await pixels(report.images[0].strip);
      const last = 3 * (width * 18 + width - 18); // the original is the last column
      return [...data.subarray(last, last + 3)];
    };
    expect(await original()).toEqual([255, 255, 255]);
    expect(await original('--background', 'black')).toEqual([0, 0, 0]);
    expect(await original('--background', '#ff8000')).toEqual([255, 128, 0]);
    for (const [verb, ...more] of [['encode'], ['reconstruct'], ['vary', '--keep', '1']]) {
      const args = [...fashion, at('clear.png'), ...more, '--background', 'pinkish', '--out', at('x')];
      expect(await cliFailure(2, verb, ...args)).toMatch(/--background: "pinkish" is no colour/);
    }
  });

  test('of kinds that are not read fail with their name', async () => {
    writeFileSync(at('a.heic'), Buffer.concat([Buffer.of(0, 0, 0, 24), Buffer.from('ftypheic')]));
    const said = await cliFailure(1, 'encode', ...fashion, at('a.heic'), '--out', at('x.npy'));
    expect(said).toMatch(/a\.heic: is HEIF, which is not read; save it as PNG, JPEG/);
  });
});
