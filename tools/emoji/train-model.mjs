// Trains the emoji model from nothing, in stages that each go on where they were interrupted.
//   node tools/emoji/train-model.mjs EMOJI RUNS [--tokenizer 40000] [--decoder 4000] [--sharper 3000] [--ar 4000]
// EMOJI is the folder that build-emoji.mjs wrote, RUNS a folder for the runs; the numbers are steps.
//   RUNS/tokenizer  a classifier of the classes, and the tokenizer by its pixels alone
//   RUNS/finer      the same tokenizer with a decoder of patches of 4 pixels and 5 layers, which begins as the one it has
//   RUNS/decoder    that decoder learns to look right to the classifier and to a PatchGAN. Codes keep their meaning, since encoder
//                   and codebook stay
//   RUNS/sharper    and once more with more weight on looks
//   RUNS/ar         the AR model on the codes of all images
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokenizer: { type: 'string', default: '40000' },
    decoder: { type: 'string', default: '4000' },
    sharper: { type: 'string', default: '3000' },
    ar: { type: 'string', default: '4000' },
  },
});
const [emoji, runs] = positionals;
if (!emoji || !runs) {
  console.error(
    'usage: node tools/emoji/train-model.mjs EMOJI RUNS [--tokenizer N] [--decoder N] [--sharper N] [--ar N]',
  );
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const data = path.join(emoji, 'images');
const [tokenizer, finer, decoder, sharper, ar] = ['tokenizer', 'finer', 'decoder', 'sharper', 'ar'].map(
  (stage) => path.join(runs, stage),
);
const classifier = path.join(tokenizer, 'classifier.safetensors');

/** The decoder that pictures are drawn with: patches of half the width leave fewer seams to be seen. */
const fine = {
  'tokenizer.model.decoder':
    '{"width":128,"heads":4,"layers":5,"mlpWidth":512,"patchSize":4,"positionGrid":16}',
};
/** Steps of a stage; the preset's warm-up is cut to them. */
const lasting = (stage, steps) => ({
  [`${stage}.steps`]: steps,
  [`${stage}.warmup`]: String(Math.min(200, Number(steps))),
});
/** The decoder alone, by the losses that see texture and seams. */
const looks = (steps, { learningRate, perceptual, start }) => ({
  ...fine,
  ...lasting('tokenizer', steps),
  'tokenizer.learningRate': learningRate,
  'tokenizer.finetuneDecoder': 'true',
  'tokenizer.correction': '0',
  'tokenizer.perceptual': `{"network":"classifier","weight":${perceptual},"warmup":${start}}`,
  'tokenizer.adversarial': `{"start":${start},"weight":0.1,"width":32,"layers":2}`,
});

if (!existsSync(classifier)) train('classifier', tokenizer);
train('tokenizer', tokenizer, set(lasting('tokenizer', values.tokenizer)), '--resume');
if (!existsSync(path.join(finer, 'config.json'))) {
  run(fileURLToPath(new URL('finer-decoder.mjs', import.meta.url)), [path.join(tokenizer, 'bundle'), finer]);
}
const judged = ['--classifier', classifier];
const first = looks(values.decoder, { learningRate: '1e-3', perceptual: 0.7, start: 500 });
train('tokenizer', decoder, '--init', finer, judged, set(first), '--resume');
const second = looks(values.sharper, { learningRate: '8e-4', perceptual: 4, start: 60 });
train('tokenizer', sharper, '--init', path.join(decoder, 'bundle'), judged, set(second), '--resume');
const codes = ['--tokenizer', path.join(sharper, 'bundle'), ...judged];
train('all', ar, ...codes, set({ ...fine, ...lasting('tokenModel', values.ar) }), '--resume');
console.log(`the model: ${path.join(ar, 'bundle')}`);
console.log(`its card:  node tools/model-card/emoji-model.mjs ${ar} ${data} --tokenizer ${sharper}/bundle`);

function train(stage, out, ...options) {
  const args = ['train', stage, '--config', 'emoji-64', '--data', data, '--out', out, ...options.flat()];
  console.log(`detailflow ${args.join(' ')}`);
  run(cli, args);
}

function run(script, args) {
  const { status } = spawnSync(process.execPath, [script, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

function set(settings) {
  return Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
}
