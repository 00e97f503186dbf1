// Trains the emoji model from nothing, in stages that each go on where they were interrupted.
//   node tools/emoji/train-model.mjs EMOJI RUNS [--tokenizer 40000] [--decoder 4000] [--ar 4000]
// EMOJI is the folder that build-emoji.mjs wrote, RUNS a folder for the runs; the numbers are steps.
//   RUNS/tokenizer  a classifier of the classes, and the tokenizer by its pixels alone
//   RUNS/decoder    the same tokenizer; its decoder learns to look right to that classifier and to a PatchGAN. Codes keep
//                   their meaning, since encoder and codebook stay
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
    ar: { type: 'string', default: '4000' },
  },
});
const [emoji, runs] = positionals;
if (!emoji || !runs) {
  console.error('usage: node tools/emoji/train-model.mjs EMOJI RUNS [--tokenizer N] [--decoder N] [--ar N]');
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const data = path.join(emoji, 'images');
const [tokenizer, decoder, ar] = ['tokenizer', 'decoder', 'ar'].map((stage) => path.join(runs, stage));
const classifier = path.join(tokenizer, 'classifier.safetensors');

/** Sharpening: small steps of the decoder alone, with the two losses that see texture and seams. */
const sharpening = {
  'tokenizer.steps': values.decoder,
  'tokenizer.learningRate': '3e-4',
  'tokenizer.warmup': '50',
  'tokenizer.finetuneDecoder': 'true',
  'tokenizer.perceptual': '{"network":"classifier","weight":0.3,"warmup":300}',
  'tokenizer.adversarial': '{"start":300,"weight":0.1,"width":16,"layers":2}',
};

if (!existsSync(classifier)) train('classifier', tokenizer);
train('tokenizer', tokenizer, set({ 'tokenizer.steps': values.tokenizer }), '--resume');
const start = ['--init', path.join(tokenizer, 'bundle'), '--classifier', classifier];
train('tokenizer', decoder, ...start, set(sharpening), '--resume');
const codes = ['--tokenizer', path.join(decoder, 'bundle'), '--classifier', classifier];
train('all', ar, ...codes, set({ 'tokenModel.steps': values.ar }), '--resume');
console.log(`the model: ${path.join(ar, 'bundle')}`);
console.log(`its card:  node tools/model-card/emoji-model.mjs ${ar} ${data} --tokenizer ${decoder}/bundle`);

function train(stage, out, ...options) {
  const args = ['train', stage, '--config', 'emoji-64', '--data', data, '--out', out, ...options.flat()];
  console.log(`detailflow ${args.join(' ')}`);
  const { status } = spawnSync(process.execPath, [cli, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

function set(settings) {
  return Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
}
