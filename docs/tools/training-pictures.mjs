// Begins the training of docs/tools/training.yaml, and makes the picture of docs/guide/train.md from what it writes on the way:
//   npm run docs:training [-- RUN]     RUN: folder of the run (default runs/guide); one that has come so far is only shown
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

const docs = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const root = path.dirname(docs);
const [run = path.join(root, 'runs', 'guide')] = process.argv.slice(2);
/** Steps that are shown; the run ends at the last of them, as by Ctrl-C. */
const STEPS = [100, 200, 400];
/** Pictures of a sheet that are shown. */
const ROWS = 5;
const pictureOf = (step) =>
  path.join(run, 'tokenizer', 'pictures', `step-${String(step).padStart(9, '0')}.png`);

if (!STEPS.every((step) => existsSync(pictureOf(step)))) await train();
await restored(path.join(docs, 'images', 'training-tokenizer.png'));

async function train() {
  const child = spawn(
    process.execPath,
    [
      path.join(root, 'packages', 'detailflow', 'dist', 'cli.js'),
      ...['train', 'tokenizer', '--config', path.join(docs, 'tools', 'training.yaml')],
      ...['--data', 'shapes:4000', '--out', run],
      ...(existsSync(path.join(run, 'config.json')) ? ['--resume'] : []),
    ],
    { stdio: 'inherit' },
  );
  const ended = once(child, 'exit');
  while (child.exitCode === null && !existsSync(pictureOf(STEPS.at(-1))))
    await Promise.race([delay(500), ended]);
  child.kill('SIGINT');
  await ended;
}

/** Columns: the originals, then what is restored from all tokens after ever more steps. */
async function restored(to) {
  const { width } = await sharp(pictureOf(STEPS[0])).metadata();
  const log = readFileSync(path.join(run, 'tokenizer', 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const counts = Object.keys(log.findLast(({ psnr }) => psnr).psnr).length;
  // A sheet has a column for the originals and one for each number of tokens, with equal gaps.
  const gap = 6;
  const cell = (width - gap) / (counts + 1);
  const column = (file, i) =>
    sharp(file)
      .extract({
        left: Math.round(i * cell),
        top: 0,
        width: Math.round(cell),
        height: Math.round(gap + ROWS * cell),
      })
      .toBuffer();
  const parts = [await column(pictureOf(STEPS[0]), 0)];
  for (const step of STEPS) {
    parts.push(await column(pictureOf(step), counts));
    const { psnr } = log.find((line) => line.step === step - 1);
    console.log(`tokenizer, ${step} steps: ${Object.values(psnr).at(-1).toFixed(1)} dB`);
  }
  await inOneRow(parts, to);
}

async function inOneRow(parts, to) {
  const sizes = await Promise.all(parts.map((part) => sharp(part).metadata()));
  const lefts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, { width }) => sum + width, 0));
  const width = sizes.reduce((sum, one) => sum + one.width, 0);
  const height = Math.max(...sizes.map((one) => one.height));
  const canvas = sharp({ create: { width, height, channels: 3, background: '#fff' } });
  await canvas
    .composite(parts.map((input, i) => ({ input, left: lefts[i], top: 0 })))
    .png({ compressionLevel: 9 })
    .toFile(to);
}
