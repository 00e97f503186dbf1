import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { writeNpz } from '@detailflow/data';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseTrainingConfig } from '../training-config';
import { bundleRun } from './bundle-run';
import { train } from './train';
import type { TrainingPart, TrainOptions } from './train-options';

/** Codes and checkpoints know the content of their images. */

const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const config = parseTrainingConfig({
  preset: 'tiny-32',
  replicas: 1,
  data: { fit: 'crop', heldOut: 0.2, flip: true },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: 4, batch: 4, microBatch: 4, warmup: 1 },
  },
  tokenModel: {
    model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 },
    ...{ steps: 4, batch: 4, microBatch: 4, warmup: 1 },
  },
  checkpoints: { every: 2, keep: 2 },
  validation: { every: 4, images: 4 },
});

let home: string;
let data: string;
let images: string[];
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'run-images-'));
  data = path.join(home, 'data');
  for (const [label, name] of ['cats', 'dogs'].entries()) {
    await mkdir(path.join(data, name), { recursive: true });
    for (let i = 0; i < 12; i++)
      await writeFile(path.join(data, name, `${i}.png`), await image(40 * label + i));
  }
  images = (await readdir(data, { recursive: true })).filter((file) => file.endsWith('.png')).sort();
  await train(options('made', 'all'));
});
afterAll(() => rm(home, { recursive: true }));

/** A file of 16 x 16 pixels of one grey, whose size depends on nothing. */
const image = (grey: number) =>
  sharp(Buffer.alloc(3 * 256, grey), { raw: { width: 16, height: 16, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();

const options = (out: string, part: TrainingPart, over: Partial<TrainOptions> = {}): TrainOptions => ({
  ...{ part, config, data, out: path.join(home, out), resume: true },
  createBackend: ({ threads }) => createNodeBackend({ threads }),
  ...over,
});

/** Changes a file for a while, and keeps its size and its time. */
async function whileChanged(file: string, content: Uint8Array, work: () => Promise<void>): Promise<void> {
  const full = path.join(data, file);
  const [before, { size, atime, mtime }] = [await readFile(full), await stat(full)];
  await writeFile(full, content);
  await utimes(full, atime, mtime);
  expect([content.length, Math.round((await stat(full)).mtimeMs)]).toEqual([size, mtime.getTime()]);
  await work();
  await writeFile(full, before);
}

/** A run that has only begun its tokenizer. */
async function begun(out: string): Promise<void> {
  const controller = new AbortController();
  const stopped = train(
    options(out, 'all', {
      signal: controller.signal,
      onSaved: ({ step }) => step === 2 && controller.abort(new Error('enough')),
    }),
  );
  await expect(stopped).rejects.toThrow('enough');
}

const refused = (part: 'training' | 'held-out') => ({
  code: 'config',
  message: expect.stringMatching(
    new RegExp(
      `the ${part} images are not those .* content or class has changed among images 0 to \\d+\\. Put them back`,
    ),
  ),
});

describe('an image that changes, and keeps its name, size and time', () => {
  test('is found by every part of a run, wherever the run is', async () => {
    await begun('begun');
    await cp(path.join(home, 'made'), path.join(home, 'coded'), { recursive: true });
    await rm(path.join(home, 'coded', 'ar'), { recursive: true });
    let [asTraining, asHeldOut] = [0, 0];
    for (const file of images) {
      await whileChanged(file, await image(200), async () => {
        const error = await train(options('made', 'ar')).catch((one) => one);
        if (/held-out/.test(error.message)) {
          if (asHeldOut++ === 0) expect(error).toMatchObject(refused('held-out'));
          return;
        }
        if (asTraining++ > 0) return expect(error).toMatchObject(refused('training'));
        for (const [out, part] of [
          ['begun', 'tokenizer'],
          ['begun', 'all'],
          ['coded', 'codes'],
          ['coded', 'ar'],
        ] as const) {
          await expect(train(options(out, part))).rejects.toMatchObject(refused('training'));
        }
      });
    }
    expect(asTraining + asHeldOut).toBe(images.length);
    expect(Math.min(asTraining, asHeldOut)).toBeGreaterThan(0);
    // Put back, all go on.
    await train(options('begun', 'all'));
    await train(options('coded', 'ar'));
    const log = (out: string) => readFile(path.join(home, out, 'ar', 'log.jsonl'), 'utf8');
    expect(await log('coded')).toBe(await log('made'));
    expect(await log('begun')).toBe(await log('made'));
  }, 240_000);

  test('is found in a .npz file, too', async () => {
    const file = path.join(home, 'images.npz');
    const pixels = Uint8Array.from({ length: 20 * 768 }, (_, i) => i % 251);
    const labels = Int32Array.from({ length: 20 }, (_, i) => i % 2);
    const write = () =>
      writeFile(
        file,
        writeNpz({ arr_0: { data: pixels, shape: [20, 16, 16, 3] }, arr_1: { data: labels, shape: [20] } }),
      );
    await write();
    await train(options('npz', 'tokenizer', { data: file }));
    pixels[7000]++;
    await write();
    await expect(train(options('npz', 'codes', { data: file }))).rejects.toThrow(
      /content or class has changed/,
    );
    pixels[7000]--;
    await write();
    await train(options('npz', 'codes', { data: file }));
    [labels[3], labels[4]] = [labels[4], labels[3]];
    await write();
    await expect(train(options('npz', 'ar', { data: file }))).rejects.toThrow(/content or class has changed/);
  }, 120_000);
});

test('images in other order, one that is broken, one more, other classes are found; other names are none of it', async () => {
  const place = (file: string) => path.join(data, file);
  const [one, other] = [images[0], images[1]];
  const resumed = () => train(options('made', 'codes'));
  await rename(place(other), place('cats/other-name.png')); // sorted last among cats: another order
  await expect(resumed()).rejects.toThrow(/images are not those/);
  await rename(place('cats/other-name.png'), place(other));
  await rename(place(one), place(one.replace('.png', '.renamed.png'))); // in the same place of the order
  await resumed();
  await rename(place(one.replace('.png', '.renamed.png')), place(one));

  const content = await readFile(place(one));
  await writeFile(place(one), content.subarray(0, 60));
  await expect(resumed()).rejects.toThrow(/images are not those/);
  await writeFile(place(one), content);

  await writeFile(place('cats/zz.png'), await image(9));
  await expect(resumed()).rejects.toThrow(/there were \d+ images, there are \d+/);
  await rm(place('cats/zz.png'));

  await rename(place('cats'), place('animals'));
  await expect(resumed()).rejects.toThrow(/the classes were cats, dogs, they are animals, dogs/);
  await rename(place('animals'), place('cats'));
  await resumed();
}, 120_000);

test('a start that is refused leaves the run as it was', async () => {
  const files = ['config.json', 'data.json', 'held-out.json', 'images.json'];
  const contents = () => Promise.all(files.map((file) => readFile(path.join(home, 'made', file), 'utf8')));
  const before = await contents();
  const other = path.join(home, 'others');
  await cp(data, other, { recursive: true });
  await rename(path.join(other, 'cats'), path.join(other, 'animals'));
  await writeFile(path.join(other, 'animals', 'notes.txt'), 'no image');
  const changed = { ...config, checkpoints: { ...config.checkpoints, keep: 7 } };
  const started = train(options('made', 'codes', { data: other, config: changed }));
  await expect(started).rejects.toThrow(/the classes were cats, dogs/);
  expect(await contents()).toEqual(before);
}, 120_000);

test('a run that does not say which images it had is not guessed at', async () => {
  await cp(path.join(home, 'made'), path.join(home, 'mute'), { recursive: true });
  for (const text of ['', '{}', '{"train":{"images":1}}']) {
    await writeFile(path.join(home, 'mute', 'images.json'), text);
    await expect(train(options('mute', 'ar'))).rejects.toThrow(/images\.json: is damaged/);
  }
  await rm(path.join(home, 'mute', 'images.json'));
  await expect(train(options('mute', 'ar'))).rejects.toThrow(/images\.json: is missing/);
});

test('codes and AR checkpoints of another tokenizer are found by its weights; another decoder is none', async () => {
  const bundle = await readBundle(await openFolder(path.join(home, 'made', 'bundle')));
  try {
    const weights = new Map(bundle.tokenizer);
    const tokenizer = { config: config.tokenizer.model, weights };
    await train(options('given', 'all', { tokenizer }));
    /** The least change of a single number. */
    const change = async (name: string) => {
      const weight = weights.get(name)!;
      const bytes = (await weight.read()).slice();
      bytes[0] ^= 1;
      weights.set(name, { ...weight, location: undefined, read: async () => bytes });
    };
    await change('decoder.mask_token');
    await change('post_quant_conv.bias');
    const run = path.join(home, 'given');
    await train(options('given', 'ar', { tokenizer }));
    const out = path.join(home, 'sharpened');
    await bundleRun({ run, out, tokenizer });
    const sharpened = await readBundle(await openFolder(out));
    expect(await sharpened.tokenizer.get('decoder.mask_token')?.read()).toEqual(
      await weights.get('decoder.mask_token')?.read(),
    );
    await sharpened.close();
    await change(
      [...weights.keys()]
        .filter((one) => /weight$/.test(one) && !/decoder|post_quant/.test(one))
        .slice(-1)[0],
    );
    await expect(bundleRun({ run, out: `${out}-not`, tokenizer })).rejects.toThrow(/another tokenizer/);
    await expect(train(options('given', 'codes', { tokenizer }))).rejects.toThrow(
      /codes of another tokenizer/,
    );
    await expect(train(options('given', 'ar', { tokenizer }))).rejects.toThrow(
      /codes are of another tokenizer/,
    );
    await rm(path.join(home, 'given', 'codes'), { recursive: true });
    await train(options('given', 'codes', { tokenizer }));
    await expect(train(options('given', 'ar', { tokenizer }))).rejects.toThrow(
      /checkpoints were trained on other codes/,
    );
  } finally {
    await bundle.close();
  }
}, 120_000);

test('no other image stands in for a held-out one that cannot be read, and each that cannot is listed', async () => {
  // One image is measured; nobody comes across the others by chance.
  const few = {
    ...config,
    ...{ data: { ...config.data, heldOut: 0.5 }, validation: { ...config.validation, images: 1 } },
  };
  await train(options('half', 'tokenizer', { config: few }));
  const { list } = JSON.parse(await readFile(path.join(home, 'half', 'held-out.json'), 'utf8'));
  const broken = list.slice(1, -1);
  expect(broken.length).toBeGreaterThan(5);
  const folder = path.join(home, 'broken');
  await cp(data, folder, { recursive: true });
  for (const file of broken) await writeFile(path.join(folder, file), 'no picture');
  const { skipped } = await train(options('broken-run', 'tokenizer', { data: folder, config: few }));
  expect(skipped.map(({ file }) => file).sort()).toEqual(broken.sort());
});

test('held-out images that are among the training images, too, are counted and told of', async () => {
  const folder = path.join(home, 'copied');
  await cp(data, folder, { recursive: true });
  const { list } = JSON.parse(await readFile(path.join(home, 'made', 'held-out.json'), 'utf8'));
  const trained = images.filter((file) => !list.includes(file));
  // Two training images are one that is held out, and one is another: two of the held-out ones are not new.
  await cp(path.join(folder, list[0]), path.join(folder, trained[0]));
  await cp(path.join(folder, list[0]), path.join(folder, trained[1]));
  await cp(path.join(folder, list[1]), path.join(folder, trained[2]));
  const notices: string[] = [];
  const onNotice = (text: string) => notices.push(text);
  await train(options('copied-run', 'tokenizer', { data: folder, onNotice }));
  expect(notices).toEqual([
    expect.stringContaining(`2 of ${list.length} held-out images are among the training images`),
  ]);
  notices.length = 0;
  await train(options('plain-run', 'tokenizer', { onNotice }));
  expect(notices).toEqual([]);
});
