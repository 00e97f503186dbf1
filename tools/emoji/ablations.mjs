// Trains small variants of the emoji model at an equal budget, and judges them: what widths, patches, codebooks, groups,
// self-correction, dropout and the losses of looks change.
//   node tools/emoji/ablations.mjs train EMOJI RUNS [--only NAME,..] [--device cpu|cuda|webgpu]
//   node tools/emoji/ablations.mjs judge EMOJI RUNS --classifier FILE [--only NAME,..] [--count 1000] [--cfg 1,2.5]
// EMOJI is the folder that build-emoji.mjs wrote. Runs that are interrupted go on where they were; variants are
// independent, so several processes may train different ones at once (those that share a tokenizer come after it).
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    classifier: { type: 'string' },
    count: { type: 'string', default: '1000' },
    cfg: { type: 'string', default: '1,2.5' },
  },
});
const [part, emoji, runs] = positionals;
if (!['train', 'judge'].includes(part) || !emoji || !runs || (part === 'judge' && !values.classifier)) {
  console.error('usage: node tools/emoji/ablations.mjs train|judge EMOJI RUNS [--classifier FILE]');
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const data = path.join(emoji, 'images');

/** A seventh of the tokenizer's and a fifth of the AR model's training, and a smaller AR model. */
const budget = {
  preset: 'emoji-64',
  // A graphics card takes a whole batch at once.
  ...(values.device !== 'cpu' && { replicas: 1 }),
  tokenizer: {
    ...{ steps: 1500, warmup: 100, averageDecay: 0.998 },
    ...(values.device !== 'cpu' && { microBatch: 32 }),
  },
  tokenModel: {
    model: { dim: 128, layers: 4, heads: 4 },
    ...{ steps: 1200, warmup: 60, averageDecay: 0.998 },
    ...(values.device !== 'cpu' && { microBatch: 64 }),
  },
  checkpoints: { every: 500, keep: 1 },
  validation: { every: 500, images: 128 },
};
const towers = (tower) => ({ encoder: tower, decoder: tower });
/** The decoder alone, begun with that of another variant. */
const longer = { steps: 600, learningRate: 3e-4, warmup: 50, finetuneDecoder: true };
const perceptual = { network: 'classifier', weight: 0.1, warmup: 50 };
const adversarial = { start: 50, weight: 0.1, width: 16, layers: 2 };

/** What each changes; `from` names the variant whose tokenizer it takes. */
const variants = {
  base: {},
  'width-192': { tokenizer: { model: towers({ width: 192, heads: 6, mlpWidth: 768 }) } },
  'patch-4-at-48': { tokenizer: { model: { imageSize: 48, ...towers({ patchSize: 4, positionGrid: 12 }) } } },
  'codebook-2048': { tokenizer: { model: { codebookSize: 2048 } } },
  'no-correction': { tokenizer: { correction: 0 }, tokenModel: { correction: 0 } },
  'groups-of-1': { tokenizer: { model: { groupSize: 1, causalTokens: 1 } } },
  'groups-of-16': { tokenizer: { model: { groupSize: 16, causalTokens: 16 } } },
  'dropout-0': { from: 'base', tokenModel: { dropout: 0 } },
  'dropout-0.4': { from: 'base', tokenModel: { dropout: 0.4 } },
  'pixels-longer': { start: 'base', tokenizer: longer },
  perceptual: { start: 'base', tokenizer: { ...longer, perceptual } },
  'perceptual-and-gan': { start: 'base', tokenizer: { ...longer, perceptual, adversarial } },
};

const only = values.only?.split(',') ?? Object.keys(variants);
for (const name of only) {
  const variant = variants[name];
  if (!variant) throw new Error(`there is no variant "${name}": ${Object.keys(variants).join(', ')}`);
  const run = path.join(runs, name);
  if (part === 'train') train(run, variant);
  else console.log(JSON.stringify({ name, ...judge(run, variant) }));
}

function train(run, { from, start, tokenizer, tokenModel }) {
  mkdirSync(run, { recursive: true });
  const settings = path.join(run, 'settings.json');
  writeFileSync(
    settings,
    JSON.stringify({
      ...budget,
      tokenizer: { ...budget.tokenizer, ...tokenizer },
      tokenModel: { ...budget.tokenModel, ...tokenModel },
    }),
  );
  const other = path.join(runs, from ?? start ?? '', 'bundle');
  detailflow(
    ...['train', start ? 'tokenizer' : 'all', '--config', settings, '--data', data, '--out', run, '--resume'],
    ...['--device', values.device],
    ...(start ? ['--init', other] : from ? ['--tokenizer', other] : []),
    ...(values.classifier ? ['--classifier', values.classifier] : []),
  );
}

/** PSNR of all tokens, Frechet distance of reconstructions, and of pictures by guidance, with their class agreement. */
function judge(run, { start, from }) {
  const shared = ['--data', data, '--run', run, '--features', values.classifier];
  const found = {};
  if (!from) {
    const out = path.join(run, 'eval-tokenizer');
    detailflow('eval', 'tokenizer', '--model', path.join(run, 'bundle'), ...shared, '--out', out);
    found.tokenizer = JSON.parse(readFileSync(path.join(out, 'tokenizer.json'), 'utf8')).rows;
  }
  if (!start) {
    const out = path.join(run, 'eval-generation');
    const asked = ['--count', values.count, '--cfg', values.cfg, '--out', out];
    detailflow('eval', 'generation', '--model', path.join(run, 'bundle'), ...shared, ...asked);
    found.generation = JSON.parse(readFileSync(path.join(out, 'generation.json'), 'utf8')).rows;
  }
  return found;
}

function detailflow(...args) {
  const { status } = spawnSync(process.execPath, [cli, ...args], { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(status ?? 1);
}
