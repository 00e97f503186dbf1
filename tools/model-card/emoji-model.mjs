// Makes the package of the emoji model from a run, with every figure of its card measured.
//   node tools/model-card/emoji-model.mjs RUN DATA [--out packages/model-emoji-64] [--count 2000] [--cfg 1,1.5,2,2.5,3] [--seed 0,100000] [--face 1] [--recommend 2] [--tokenizer DIR] [--classifier FILE] [--work DIR]
// RUN is the folder of a run with the settings of the preset emoji-64, DATA the folder of images that tools/emoji built. RUN may also be a
// bundle, such as OUT/model itself, which then gets the decoder of --tokenizer; its classifier is given (--classifier) or that of OUT. What is measured is kept in DIR, by default RUN/card.
// Writes OUT/model (a bundle, fp16), OUT/classifier.safetensors, OUT/images (samples, and classes.png: one picture of each class,
// one below the other, of the seed --face) and OUT/figures.json; measuring goes on where it was interrupted. OUT/FIGURES.md holds the tables of the card. --tokenizer is the one that RUN was given, where it
// was not trained there.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string', default: 'packages/model-emoji-64' },
    count: { type: 'string', default: '2000' },
    cfg: { type: 'string', default: '1,1.5,2,2.5,3' },
    seed: { type: 'string', default: '0,100000' },
    tokenizer: { type: 'string' },
    classifier: { type: 'string' },
    work: { type: 'string' },
    face: { type: 'string', default: '1' },
    recommend: { type: 'string', default: '2' },
  },
});
const [run, data] = positionals;
if (!run || !data) {
  console.error(
    'usage: node tools/model-card/emoji-model.mjs RUN DATA [--out DIR] [--count N] [--cfg LIST] [--seed LIST] [--tokenizer DIR]',
  );
  process.exit(2);
}
const { out, count, cfg, seed } = values;
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));
const [model, classifier] = [path.join(out, 'model'), path.join(out, 'classifier.safetensors')];
const kept = values.work ?? path.join(run, 'card');
mkdirSync(path.join(out, 'images'), { recursive: true });

const credits = readFileSync(path.join(data, '..', 'CREDITS.md'), 'utf8');
const drawings = [...credits.matchAll(/^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| <[^|]+> \|/gm)].map(
  ([, title, by, licence]) => `${title.trim()} (${by.trim()}, ${licence.trim()})`,
);
mkdirSync(kept, { recursive: true });
const bundled = JSON.parse(readFileSync(path.join(run, 'config.json'), 'utf8')).format === 'detailflow';
const { source, steps } = bundled ? { source: decoderExchanged() } : bundleOfRun();
detailflow(
  ...['convert', ...source, '--dtype', 'fp16', '--out', model, '--overwrite'],
  ...['--name', 'emoji-64', '--license', 'Apache-2.0'],
  ...['--description', 'Draws emoji of 20 classes, 64 x 64 pixels, from 64 tokens.'],
  ...['--subject', 'emoji on white', '--cfg', values.recommend],
  ...['--attribution', `Trained on the drawings of ${drawings.join(', ')}`],
);
const its = values.classifier ?? (bundled ? classifier : path.join(run, 'classifier.safetensors'));
if (path.resolve(its) !== path.resolve(classifier)) copyFileSync(its, classifier);
const measured = ['--model', model, '--data', data, '--features', classifier, '--out', kept];
const tokenizer = detailflow('eval', 'tokenizer', ...measured);
const generation = detailflow(
  ...['eval', 'generation', ...measured, '--count', count, '--cfg', cfg, '--seed', seed, '--train'],
);
const scales = cfg.split(',');
copyFileSync(path.join(kept, `samples-cfg${values.recommend}.png`), path.join(out, 'images', 'samples.png'));
copyFileSync(path.join(kept, 'nearest-neighbours.png'), path.join(out, 'images', 'nearest.png'));
await classPictures();
const images = steps ? imagesSeen() : undefined;
const figures = { steps, images, tokenizer, generation: { ...generation, rows: undefined } };
// Where the images lay on this machine is nobody's business.
const withoutPaths = (_, value) => (value === data ? path.basename(data) : value);
writeFileSync(path.join(out, 'figures.json'), `${JSON.stringify(figures, withoutPaths, 1)}\n`);
writeFileSync(path.join(out, 'FIGURES.md'), tables());
console.log(readFileSync(path.join(out, 'FIGURES.md'), 'utf8'));

/** Runs a command, and gives what it says with --json. */
function detailflow(...args) {
  const { status, stdout } = spawnSync(process.execPath, [cli, ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) process.exit(status ?? 1);
  return JSON.parse(stdout);
}

/** The bundle of a run, and the steps that it was trained for. */
function bundleOfRun() {
  const whole = path.join(kept, 'bundle');
  const given = values.tokenizer === undefined ? [] : ['--tokenizer', values.tokenizer];
  const made = detailflow('train', 'bundle', '--run', run, '--out', whole, '--overwrite', ...given);
  return { source: ['--model', whole], steps: made.steps };
}

/** A copy of the bundle, since OUT/model may be the one, with the decoder that is given. */
function decoderExchanged() {
  const copy = path.join(kept, 'bundle');
  if (!existsSync(copy)) detailflow('convert', '--model', run, '--out', copy);
  return ['--model', copy, ...(values.tokenizer === undefined ? [] : ['--decoder', values.tokenizer])];
}

/** One picture of each class, one below the other. */
async function classPictures() {
  const { classNames } = JSON.parse(readFileSync(path.join(model, 'config.json'), 'utf8'));
  const folder = path.join(kept, 'classes');
  rmSync(folder, { recursive: true, force: true });
  const { images: drawn } = detailflow(
    ...[
      'generate',
      '--model',
      model,
      '--class',
      `0-${classNames.length - 1}`,
      '--seed',
      values.face,
      '--cfg',
      values.recommend,
      '--out',
      folder,
    ],
  );
  const rows = drawn.map(({ file: input }, row) => ({ input, left: 0, top: 64 * row }));
  await sharp({ create: { width: 64, height: 64 * rows.length, channels: 3, background: '#fff' } })
    .composite(rows)
    .png({ compressionLevel: 9 })
    .toFile(path.join(out, 'images', 'classes.png'));
}

/** Images that each half was trained with. */
function imagesSeen() {
  const settings = JSON.parse(readFileSync(path.join(run, 'config.json'), 'utf8'));
  return {
    ...(steps.tokenizer !== undefined && {
      tokenizer: steps.tokenizer * settings.tokenizer.batch,
    }),
    ar: (steps.ar ?? 0) * settings.tokenModel.batch,
  };
}

function tables() {
  const row = (cells) => `| ${cells.join(' | ')} |`;
  const { restorations } = tokenizer;
  const { summary, floor, copies, accuracy, real } = generation;
  const over = (name, factor = 1, digits = 1) => [
    ...summary.map((one) => {
      const found = one[name];
      return found
        ? `${(factor * found.mean).toFixed(digits)} ± ${(factor * found.spread).toFixed(digits)}`
        : '';
    }),
    name === 'agreement' || floor?.[name] === undefined ? '' : (factor * floor[name]).toFixed(digits),
  ];
  const copied = (cell) =>
    scales.map((scale) => cell(copies.find((one) => `${one.cfg}` === `${Number(scale)}`)));
  return [
    images &&
      `Trained with ${images.tokenizer ?? 'a tokenizer from elsewhere'}${images.tokenizer ? ' images (tokenizer)' : ''} and ${images.ar} images (AR model).\n`,
    `On ${tokenizer.images} held-out pictures:`,
    '',
    row(['tokens', ...restorations.map(({ tokens }) => tokens)]),
    row(['---', ...restorations.map(() => '---')]),
    row(['pixels', ...restorations.map(({ size }) => size)]),
    row(['PSNR, dB', ...restorations.map(({ psnr }) => psnr.toFixed(2))]),
    row(['SSIM', ...restorations.map(({ ssim }) => ssim?.toFixed(3) ?? '–')]),
    row(['Fréchet distance', ...restorations.map(({ frechet }) => frechet.toFixed(1))]),
    '',
    `Codes in use: ${(100 * tokenizer.usage).toFixed(1)} %, perplexity ${tokenizer.perplexity.toFixed(0)}.`,
    '',
    `${count} generated pictures for each of the seeds ${seed}; against ${real} held-out pictures:`,
    '',
    row(['CFG', ...scales, 'real training images']),
    row(['---', ...scales.map(() => '---'), '---']),
    row(['of the class that was asked for, %', ...over('agreement', 100)]),
    row(['Fréchet distance', ...over('frechet')]),
    row(['precision', ...over('precision', 1, 3)]),
    row(['recall', ...over('recall', 1, 3)]),
    row([
      'nearer to a training picture than all but 5 % of the held-out ones, %',
      ...copied((one) => (100 * one.share).toFixed(1)),
      '',
    ]),
    row(['median distance to the nearest training picture', ...copied((one) => one.drawn.toFixed(2)), '']),
    '',
    ...byClass(row),
    '',
    `The classifier names the class of ${(100 * accuracy).toFixed(1)} % of the held-out pictures; their median distance to the nearest training picture is ${copies[0].heldOut.toFixed(2)}.`,
    '',
  ]
    .filter((line) => line !== undefined)
    .join('\n');
}

/** How each class is drawn with the guidance that is recommended, as a mean of the seeds. */
function byClass(row) {
  const { classNames } = JSON.parse(readFileSync(path.join(model, 'config.json'), 'utf8'));
  const rows = generation.rows.filter((one) => one.cfg === Number(values.recommend));
  const share = (of, i) => ((100 * rows.reduce((sum, one) => sum + of(one)[i], 0)) / rows.length).toFixed(0);
  return [
    `By class, with CFG ${values.recommend}:`,
    '',
    row([
      'class',
      'pictures of the data set',
      'named so by the classifier, %',
      'like a real picture (precision), %',
    ]),
    row(['---', '---', '---', '---']),
    ...classNames.map((name, i) =>
      row([
        name,
        readdirSync(path.join(data, name)).length,
        share((one) => one.agreement.byClass, i),
        share((one) => one.precisionByClass, i),
      ]),
    ),
  ];
}
