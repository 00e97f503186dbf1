// Steps with REPA and with images of many sizes against the plain step, and reading archives against reading a folder.
// npm run bench -- options [--steps N] [--images N] [--large]: --large draws a picture of 512 pixels with random full-size weights.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createTokenModel, presetConfig, tokenModelParameters } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { Tensor, weightFromArray } from '@detailflow/core';
import { openDataset } from '@detailflow/data/node';
import { sampleTokens } from '@detailflow/sampler';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import { parseTrainingConfig, TokenizerTrainer } from '@detailflow/train';
import { zipSync } from 'fflate';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { randomWeight } from './random-weights.mjs';

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '30' },
    images: { type: 'string', default: '2000' },
    large: { type: 'boolean', default: false },
  },
});
const [steps, images] = [Number(values.steps), Number(values.images)];
const random = (length) => Float32Array.from({ length }, (_, i) => Math.sin(12.9898 * i) % 1);

async function secondsOfAStep(name, tokenizer, networks) {
  const { model, recipe } = parseTrainingConfig({
    preset: 'tiny-32',
    tokenizer: { degradation: 0, correction: 0, batch: 16, microBatch: 8, ...tokenizer },
  }).tokenizer;
  const backend = await createNodeBackend({ threads: 1 });
  const trainer = await TokenizerTrainer.create({
    config: model,
    recipe,
    backends: [backend],
    seed: 1,
    networks,
  });
  const batch = random(16 * 3 * trainer.imageSize ** 2);
  let [seconds, counted] = [0, 0];
  // Steps that compile a graph do not count; there are as many as sizes and kinds of steps.
  for (let made = 0; counted < steps && made < 20 * steps; made++) {
    const { graphs } = trainer;
    const started = performance.now();
    await trainer.train(batch);
    if (trainer.graphs !== graphs) continue; // it compiled
    seconds += (performance.now() - started) / 1000;
    counted++;
  }
  await trainer.dispose();
  await backend.close();
  console.log(`${name.padEnd(28)}${(1000 * (seconds / counted)).toFixed(0).padStart(8)} ms a step`);
  return seconds / counted;
}

const repa = {
  ...{ width: 64, patchSize: 4 },
  features: async ({ dims: [count, , side] }) =>
    new Tensor('float32', random(count * (side / 4) ** 2 * 64), [count, (side / 4) ** 2, 64]),
};
const plain = await secondsOfAStep('plain step', {});
const told = await secondsOfAStep('REPA, features at hand', { repa: { width: 256 } }, { repa });
const sizes = { imageSize: 32, minSize: 16, maxSize: 32, probability: 0.5 };
const sized = await secondsOfAStep('images of many sizes', { sizes });
console.log(`REPA ${(told / plain).toFixed(2)}, many sizes ${(sized / plain).toFixed(2)} of the plain step`);

const home = mkdtempSync(path.join(tmpdir(), 'bench-options-'));
try {
  const files = {};
  for (let i = 0; i < images; i++) {
    const raw = { width: 64, height: 64, channels: 3 };
    const data = Buffer.from(random(64 * 64 * 3).map((x) => 128 + 100 * Math.sin(i + x)));
    files[`${i % 2 ? 'a' : 'b'}/${i}.jpg`] = await sharp(data, { raw }).jpeg().toBuffer();
  }
  for (const name of ['a', 'b']) mkdirSync(path.join(home, 'folder', name), { recursive: true });
  for (const [name, data] of Object.entries(files)) writeFileSync(path.join(home, 'folder', name), data);
  writeFileSync(path.join(home, 'set.zip'), zipSync(files, { level: 0 }));
  execFileSync('tar', ['-C', path.join(home, 'folder'), '-cf', path.join(home, 'set.tar'), 'a', 'b']);
  // As the Hub keeps images: a hundred to a group of rows, each group one page.
  const columns = [
    { name: 'image', data: Object.values(files).map((file) => new Uint8Array(file)), type: 'BYTE_ARRAY' },
    { name: 'label', data: Object.keys(files).map((name) => (name[0] === 'a' ? 0 : 1)), type: 'INT32' },
  ];
  for (const codec of ['SNAPPY', 'UNCOMPRESSED']) {
    const parquet = parquetWriteBuffer({ columnData: columns, codec, rowGroupSize: 100, pageSize: 2 ** 30 });
    writeFileSync(path.join(home, `${codec.toLowerCase()}.parquet`), new Uint8Array(parquet));
  }
  const archives = ['set.zip', 'set.tar', 'snappy.parquet', 'uncompressed.parquet'];
  for (const source of ['folder', ...archives, 'folder']) {
    const started = performance.now();
    const { train, heldOut } = await openDataset(path.join(home, source), { heldOut: 0.1, seed: 1 });
    const opened = performance.now();
    for (let i = 0; i < train.labels.length; i++) await train.image((i * 7919) % train.labels.length);
    const rate = train.labels.length / ((performance.now() - opened) / 1000);
    console.log(
      `${source.padEnd(28)}${rate.toFixed(0).padStart(8)} images/s, opened in ${(opened - started).toFixed(0)} ms`,
    );
    for (const part of [train, heldOut]) await part.close?.();
  }
} finally {
  rmSync(home, { recursive: true });
}

/** One picture from its class to its pixels: the tokens of GPT-L with guidance, and the decoder. The first one also compiles. */
async function drawLarge(tokenizer, backend, { tokens, groupSize, codebookSize }) {
  const config = presetConfig('GPT-L', { tokens, groupSize, vocabularySize: codebookSize, classes: 1000 });
  const weights = new Map(
    tokenModelParameters(config).map(({ name, shape }) => [name, randomWeight(name, shape)]),
  );
  const model = createTokenModel({ config, weights, backend });
  for (const what of ['first', 'next']) {
    const started = performance.now();
    let last;
    for await (const step of sampleTokens({ model, labels: [0], cfg: 1.5, seed: 1 })) last = step;
    const drawn = performance.now();
    await tokenizer.decode(await last.tokens(), { size: 512 });
    const [all, own] = [performance.now() - started, drawn - started].map((ms) => (ms / 1000).toFixed(2));
    console.log(
      `${`${what} picture of 512 pixels`.padEnd(28)}${all.padStart(8)} s, ${own} s of it the ${tokens} tokens`,
    );
  }
  await model.dispose();
}

if (values.large) {
  const config = parseTrainingConfig({ preset: 'detailflow-32' }).tokenizer.model;
  const large = { ...config, imageSize: 512 };
  const weights = new Map(
    tokenizerParameters(large).map(({ name, shape }) => {
      const data = random(shape.reduce((a, b) => a * b, 1)).map((x) => 0.02 * x);
      return [name, weightFromArray(name, shape, data)];
    }),
  );
  const backend = await createNodeBackend();
  const tokenizer = createTokenizer({ config: large, weights, backend });
  const picture = new Tensor('float32', random(3 * 512 * 512), [1, 3, 512, 512]);
  const codes = await tokenizer.encode(picture);
  for (const what of ['encode', 'decode']) {
    const started = performance.now();
    await (what === 'encode' ? tokenizer.encode(picture) : tokenizer.decode(codes));
    console.log(`${what} 512 pixels${((performance.now() - started) / 1000).toFixed(2).padStart(16)} s`);
  }
  const peak = () => `${(process.resourceUsage().maxRSS / 2 ** 20).toFixed(1).padStart(30)} GiB at most`;
  console.log(`memory${peak()}`);
  await drawLarge(tokenizer, backend, large);
  console.log(`memory${peak()}`);
  await tokenizer.dispose();
  await backend.close();
}
