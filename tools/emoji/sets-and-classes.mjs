// What the choice of sets and of classes changes: small tokenizers trained on some of the emoji, all judged by the same held-out ones.
//   node tools/emoji/sets-and-classes.mjs EMOJI RUNS --held-out FILE --classifier FILE [--steps 700] [--only NAME,..]
// EMOJI is the folder that build-emoji.mjs wrote, and FILE the held-out.json of a run on all of it. Prints a line of JSON for each variant.
import { spawnSync } from 'node:child_process';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'held-out': { type: 'string' },
    classifier: { type: 'string' },
    steps: { type: 'string', default: '700' },
    only: { type: 'string' },
  },
});
const [emoji, runs] = positionals;
if (!emoji || !runs || !values['held-out'] || !values.classifier) {
  console.error(
    'usage: node tools/emoji/sets-and-classes.mjs EMOJI RUNS --held-out FILE --classifier FILE [...]',
  );
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const pictures = JSON.parse(readFileSync(path.join(emoji, 'manifest.json'), 'utf8'));
const heldOut = new Set(JSON.parse(readFileSync(values['held-out'], 'utf8')).list);

const sizes = new Map();
for (const { file } of pictures) sizes.set(classOf(file), (sizes.get(classOf(file)) ?? 0) + 1);
const largest = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a)).slice(0, 10);

/** What is trained on. All are judged by the held-out pictures of all sets; of the ten classes, where there are no others. */
const variants = {
  'all six sets': {},
  'Twemoji alone': { sets: ['twemoji'] },
  'three flat sets': { sets: ['noto', 'twemoji', 'fluent-emoji-flat'] },
  'ten classes': { classes: largest },
};

const tower = { width: 96, heads: 3, mlpWidth: 384, positionGrid: 6 };
const settings = {
  preset: 'emoji-64',
  data: { views: 'center+mirror' },
  tokenizer: {
    ...{ steps: Number(values.steps), warmup: Math.min(60, values.steps / 2), averageDecay: 0.998 },
    model: { imageSize: 48, tokens: 32, encoder: tower, decoder: tower },
  },
  checkpoints: { every: 500, keep: 1 },
  validation: { every: 500, images: 128 },
};

mkdirSync(runs, { recursive: true });
for (const name of values.only?.split(',') ?? Object.keys(variants)) {
  const variant = variants[name];
  if (!variant) throw new Error(`there is no variant "${name}": ${Object.keys(variants).join(', ')}`);
  const run = path.join(runs, name.replaceAll(' ', '-'));
  const images = `${run}-images`;
  const trained = laid(images, variant);
  const config = `${run}.json`;
  writeFileSync(config, JSON.stringify(settings));
  detailflow('train', 'tokenizer', '--config', config, '--data', images, '--out', run, '--resume');
  const judged = {};
  for (const [by, folder] of [
    ['own classes', images],
    ['ten classes', laidTen()],
  ]) {
    const found = detailflow(
      ...['eval', 'tokenizer', '--model', path.join(run, 'bundle'), '--data', folder, '--json'],
      ...[
        '--features',
        values.classifier,
        '--eval-size',
        '64',
        '--out',
        `${run}-judged-${by.replace(' ', '-')}`,
      ],
    );
    const { restorations, images: count } = JSON.parse(found);
    judged[by] = { images: count, ...restorations.at(-1) };
  }
  console.log(JSON.stringify({ name, trained, judged }));
}

/** Folders train/CLASS and validation/CLASS of links to pictures. @returns how many are trained on */
function laid(folder, { sets, classes }) {
  rmSync(folder, { recursive: true, force: true });
  let trained = 0;
  for (const { file, set } of pictures) {
    if (classes && !classes.includes(classOf(file))) continue;
    const isHeldOut = heldOut.has(path.relative('images', file));
    if (!isHeldOut && sets && !sets.includes(set)) continue;
    if (!isHeldOut) trained++;
    const to = path.join(folder, isHeldOut ? 'validation' : 'train', path.relative('images', file));
    mkdirSync(path.dirname(to), { recursive: true });
    linkSync(path.join(emoji, file), to);
  }
  return trained;
}

function laidTen() {
  const folder = path.join(runs, 'ten-images');
  laid(folder, { classes: largest });
  return folder;
}

function classOf(file) {
  return path.dirname(path.relative('images', file));
}

function detailflow(...args) {
  const { status, stdout } = spawnSync(process.execPath, [cli, ...args], {
    ...{ stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 2 ** 28 },
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}
