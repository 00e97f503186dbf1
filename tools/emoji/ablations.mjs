// Trains small variants of the emoji model at an equal budget, and judges them: what widths, patches, codebooks, groups,
// self-correction, dropout and the losses of looks change.
//   node tools/emoji/ablations.mjs train EMOJI RUNS [--only NAME,..] [--small] [--tokenizer 1500] [--ar 1200] [--device cpu|cuda|webgpu]
//   node tools/emoji/ablations.mjs judge EMOJI RUNS --classifier FILE [--only NAME,..] [--small] [--count 1000] [--cfg 1,2.5]
// --small takes pictures of 48 pixels, 32 tokens and narrower models, for which two cores have time.
// EMOJI is the folder that build-emoji.mjs wrote. Runs that are interrupted go on where they were; variants are
// independent, so several processes may train different ones at once (those that share a tokenizer come after it).
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    small: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cpu' },
    classifier: { type: 'string' },
    tokenizer: { type: 'string', default: '1500' },
    ar: { type: 'string', default: '1200' },
    count: { type: 'string', default: '1000' },
    cfg: { type: 'string', default: '1,2.5' },
  },
});
const [part, emoji, runs] = positionals;
if (!['train', 'judge'].includes(part) || !emoji || !runs || (part === 'judge' && !values.classifier)) {
  console.error('usage: node tools/emoji/ablations.mjs train|judge EMOJI RUNS [--classifier FILE] [...]');
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const data = path.join(emoji, 'images');

/** Less training and a smaller AR model than the model in the package has. */
const budget = {
  preset: 'emoji-64',
  // A graphics card takes a whole batch at once.
  ...(values.device !== 'cpu' && { replicas: 1 }),
  data: { views: 'center+mirror' },
  tokenizer: {
    ...{ steps: Number(values.tokenizer), warmup: Math.min(60, values.tokenizer / 2), averageDecay: 0.998 },
    ...(values.device !== 'cpu' && { microBatch: 32 }),
  },
  tokenModel: {
    model: { dim: 128, layers: 4, heads: 4 },
    ...{ steps: Number(values.ar), warmup: Math.min(40, values.ar / 2), averageDecay: 0.998 },
    ...(values.device !== 'cpu' && { microBatch: 64 }),
  },
  checkpoints: { every: 500, keep: 1 },
  validation: { every: 500, images: 128 },
};
const towers = (tower) => ({ encoder: tower, decoder: tower });
if (values.small) {
  const narrow = towers({ width: 96, heads: 3, mlpWidth: 384, positionGrid: 6 });
  budget.tokenizer.model = { imageSize: 48, tokens: 32, ...narrow };
}
/** The decoder alone, begun with that of another variant. */
const longer = {
  steps: Math.round(Number(values.tokenizer) / 3),
  learningRate: 3e-4,
  warmup: Math.min(50, Math.round(values.tokenizer / 6)),
  finetuneDecoder: true,
};
const perceptual = { network: 'classifier', weight: 0.3, warmup: 20 };
const adversarial = { start: 20, weight: 0.1, width: 16, layers: 2 };

/** What each changes; `from` names the variant whose tokenizer it takes. */
const variants = {
  base: {},
  'width-192': { tokenizer: { model: towers({ width: 192, heads: 6, mlpWidth: 768 }) } },
  'patch-4-at-48': {
    tokenizer: { model: { imageSize: 48, ...towers({ patchSize: 4, positionGrid: 12 }) } },
    evalSize: true, // the classifier takes 64
  },
  'codebook-2048': { tokenizer: { model: { codebookSize: 2048 } } },
  'no-correction': { tokenizer: { correction: 0 }, tokenModel: { correction: 0 } },
  'groups-of-1': { tokenizer: { model: { groupSize: 1, causalTokens: 1 } } },
  'groups-of-16': { tokenizer: { model: { groupSize: 16, causalTokens: 16 } } },
  'first-group-at-once': { tokenizer: { model: { causalTokens: 0 } } },
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
      tokenizer: {
        ...budget.tokenizer,
        ...tokenizer,
        model: merged(budget.tokenizer.model, tokenizer?.model),
      },
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

/** The sizes of a variant over those that all have, those of the towers as well. */
function merged(all = {}, own = {}) {
  const tower = (name) => (all[name] || own[name] ? { [name]: { ...all[name], ...own[name] } } : {});
  return { ...all, ...own, ...tower('encoder'), ...tower('decoder') };
}

/** PSNR of all tokens, Frechet distance of reconstructions, and of pictures by guidance, with their class agreement. */
function judge(run, { start, from, evalSize }) {
  const shared = [
    ...['--model', path.join(run, 'bundle'), '--data', data],
    ...['--features', values.classifier, '--json'],
    ...(evalSize || values.small ? ['--eval-size', '64'] : []),
  ];
  const found = {};
  if (!from) {
    const out = path.join(run, 'judged-tokenizer');
    const { restorations, usage } = JSON.parse(detailflow('eval', 'tokenizer', ...shared, '--out', out));
    found.tokenizer = { ...restorations.at(-1), usage };
  }
  if (!start) {
    const out = path.join(run, 'judged-generation');
    const asked = ['--count', values.count, '--cfg', values.cfg, '--out', out];
    found.generation = JSON.parse(detailflow('eval', 'generation', ...shared, ...asked)).rows;
  }
  return found;
}

function detailflow(...args) {
  const { status, stdout } = spawnSync(process.execPath, [cli, ...args], {
    ...{ stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 2 ** 28 },
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}
