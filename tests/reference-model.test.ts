import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { stepAt } from '@detailflow/core';
import { guide } from '@detailflow/sampler';
import { load, type Model, psnr, Tensor, type TensorData, type TensorType } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const inRepository = (file: string) => fileURLToPath(new URL(`../${file}`, import.meta.url));
const expected = JSON.parse(readFileSync(inRepository('tests/fixtures/fashion-ref/expected.json'), 'utf8'));
const classes = Array.from({ length: 10 }, (_, i) => i);

let model: Model;
beforeAll(async () => {
  model = await load(inRepository('tests/fixtures/fashion-ref'));
});
afterAll(() => model.dispose());

describe.each([
  { name: 'greedy_tokens_classes_0_to_9_cfg_2.0', cfg: 2, guidance: 'constant' } as const,
  { name: 'greedy_tokens_classes_0_to_9_cfg_1.5_gradual', cfg: 1.5, guidance: 'gradual' } as const,
])('$name', ({ name, cfg, guidance }) => {
  const sequences: number[][] = expected[name];

  test('every class, token by token', async () => {
    let found: number[][] = [];
    for await (const step of model.generate({ labels: classes, greedy: true, cfg, guidance })) {
      if (step.count === step.total) found = rows(await step.tokens());
    }
    const wrong = found.flatMap((row, label) => {
      const at = row.findIndex((token, i) => token !== sequences[label][i]);
      return at < 0 ? [] : [{ label, at }];
    });
    const lead = wrong.length > 0 ? await leads(sequences, cfg, guidance) : [];
    const places = wrong.map(
      ({ label, at }) =>
        `class ${label} differs from token ${at} on, where ${sequences[label][at]} leads by ${lead[label][at]}`,
    );
    expect(found, places.join('; ')).toEqual(sequences);
  });

  test('each expected token is the most likely one, by a margin above the rounding of the runtime', async () => {
    const smallest = Math.min(...(await leads(sequences, cfg, guidance)).flat());
    expect(smallest).toBeGreaterThan(1e-4);
  });
});

/** How far the guided logit of each token of given sequences lies above the best of the others: [class][token]. */
async function leads(
  sequences: number[][],
  cfg: number,
  guidance: 'constant' | 'gradual',
): Promise<number[][]> {
  const { tokenModel } = model;
  if (!tokenModel?.guidances) throw new Error('the reference model has an AR part');
  const { vocabularySize } = tokenModel;
  const count = sequences.length;
  const session = await tokenModel.begin([...classes, ...classes.map(() => tokenModel.unconditional())]);
  const out: number[][] = sequences.map(() => []);
  const row = new Float32Array(vocabularySize);
  let chosen: Int32Array | undefined;
  for (let position = 0; position < tokenModel.tokens; ) {
    const logits = (await session.predict(chosen)).data as Float32Array;
    const width = session.nextCount;
    const step = stepAt(tokenModel.schedule, position);
    const scale = guidance === 'gradual' ? tokenModel.guidances.gradual(step, cfg) : cfg;
    const at = (image: number, k: number) =>
      logits.subarray((image * width + k) * vocabularySize, (image * width + k + 1) * vocabularySize);
    for (const [image, sequence] of sequences.entries()) {
      for (let k = 0; k < width; k++) {
        guide(at(image, k), at(count + image, k), scale, row);
        const own = row[sequence[position + k]];
        row[sequence[position + k]] = Number.NEGATIVE_INFINITY;
        out[image].push(own - row.reduce((a, b) => Math.max(a, b)));
      }
    }
    const block = sequences.flatMap((sequence) => sequence.slice(position, position + width));
    chosen = Int32Array.from([...block, ...block]);
    position += width;
  }
  await session.dispose();
  return out;
}

const dataset = fileURLToPath(new URL('../../shared/data/fashion-mnist', import.meta.url));
const hasDataset = existsSync(dataset);
if (!hasDataset) {
  console.warn(
    `\nSKIPPED: the figures of the reference model on Fashion-MNIST. They need its test images in ${dataset}.\n`,
  );
}

if (!hasDataset)
  console.warn('PSNR AND CODES OF TEST IMAGES ARE NOT TESTED: the Fashion-MNIST images are not here');

describe.skipIf(!hasDataset)('on the first test images of Fashion-MNIST', () => {
  let images: Tensor<'float32'>;
  let codes: Tensor<'int32'>;
  beforeAll(async () => {
    images = testImages(512);
    codes = await inBatches(images, (batch) => model.encode(batch));
  });

  test('code indices of the first 16', () => {
    expect(rows(codes).slice(0, 16)).toEqual(expected.indices_first_16_test_images);
  });

  test('resolution and mean PSNR of 512 images at every number of tokens', async () => {
    const figures: Record<string, number> = expected.psnr_first_512_test_images_full_size;
    const found: Record<string, number> = {};
    for (const tokens of Object.keys(figures).map(Number)) {
      const restored = await inBatches(codes, (batch) => model.decode(batch, { tokens, size: 32 }));
      found[tokens] = meanPsnr(restored, images);
      expect(found[tokens], `PSNR at ${tokens} tokens`).toBeGreaterThan(figures[tokens] - 0.05);
      expect(found[tokens], `PSNR at ${tokens} tokens`).toBeLessThan(figures[tokens] + 0.05);
    }
    const shown = Object.entries(found).map(([tokens, decibels]) => `${tokens}: ${decibels.toFixed(4)}`);
    console.info(`PSNR in dB by number of tokens: ${shown.join(', ')}`);
    for (const [tokens, resolution] of Object.entries(expected.token2dec_out_res)) {
      expect(model.tokenizer.resolution(Number(tokens))).toBe(resolution);
    }
  });
});

/** The first test images: 28x28 grey bytes, padded with black to 32x32, three equal channels in [-1, 1]. */
function testImages(count: number): Tensor<'float32'> {
  const file = gunzipSync(readFileSync(`${dataset}/t10k-images-idx3-ubyte.gz`));
  expect([file.readUInt32BE(0), file.readUInt32BE(8), file.readUInt32BE(12)]).toEqual([2051, 28, 28]);
  const data = new Float32Array(count * 3 * 32 * 32).fill(-1);
  for (let image = 0; image < count; image++) {
    for (let y = 0; y < 28; y++) {
      for (let x = 0; x < 28; x++) {
        const value = file[16 + (image * 28 + y) * 28 + x] / 127.5 - 1;
        for (let c = 0; c < 3; c++) data[((image * 3 + c) * 32 + y + 2) * 32 + x + 2] = value;
      }
    }
  }
  return new Tensor('float32', data, [count, 3, 32, 32]);
}

async function inBatches<From extends TensorType, To extends TensorType>(
  all: Tensor<From>,
  work: (batch: Tensor<From>) => Promise<Tensor<To>>,
): Promise<Tensor<To>> {
  const [count, ...rest] = all.dims;
  const size = 64;
  const parts: Tensor<To>[] = [];
  for (let at = 0; at < count; at += size) {
    const width = all.data.length / count;
    const data = all.data.slice(at * width, (at + size) * width) as TensorData<From>;
    parts.push(await work(new Tensor(all.type as From, data, [size, ...rest])));
  }
  const Data = parts[0].data.constructor as new (length: number) => TensorData<To>;
  const joined = new Data(parts.length * parts[0].data.length);
  for (const [i, part] of parts.entries()) joined.set(part.data, i * part.data.length);
  return new Tensor(parts[0].type as To, joined, [count, ...parts[0].dims.slice(1)]);
}

function meanPsnr(restored: Tensor, originals: Tensor): number {
  const count = originals.dims[0];
  const size = originals.data.length / count;
  const image = (tensor: Tensor, i: number) =>
    (tensor.data as Float32Array).subarray(i * size, (i + 1) * size);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += psnr(image(restored, i), image(originals, i));
  return sum / count;
}

function rows(tensor: Tensor): number[][] {
  const [count, width] = tensor.dims;
  return Array.from({ length: count }, (_, i) =>
    Array.from((tensor.data as Int32Array).subarray(i * width, (i + 1) * width)),
  );
}
