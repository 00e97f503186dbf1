// Trains the small model of docs/tools/training.yaml and makes the pictures of docs/guide/train.md from what its run wrote on the way:
//   npm run docs:training [-- RUN]     RUN: folder of the run (default runs/guide); one that is there goes on, or is only shown
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

const docs = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const root = path.dirname(docs);
const [run = path.join(root, 'runs', 'guide')] = process.argv.slice(2);
const train = [
  path.join(root, 'packages', 'detailflow', 'dist', 'cli.js'),
  ...[
    'train',
    'all',
    '--config',
    path.join(docs, 'tools', 'training.yaml'),
    '--data',
    'shapes:4000',
    '--out',
    run,
  ],
  ...(existsSync(path.join(run, 'config.json')) ? ['--resume'] : []),
];
const { status } = spawnSync(process.execPath, train, { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

await restored(path.join(docs, 'images', 'training-tokenizer.png'));
await samples(path.join(docs, 'images', 'training-samples.png'));

/** The first steps, each twice as far as the one before, and their pictures. */
function onTheWay(stage) {
  const folder = path.join(run, stage, 'pictures');
  const steps = readdirSync(folder)
    .map((name) => Number(/^step-(\d+)\.png$/.exec(name)?.[1]))
    .filter((step) => step > 0)
    .sort((a, b) => a - b);
  const shown = steps.filter((step) => Number.isInteger(Math.log2(step / steps[0])));
  return shown.map((step) => ({
    step,
    file: path.join(folder, `step-${String(step).padStart(9, '0')}.png`),
  }));
}

/** Columns: the originals, then what is restored from all tokens after ever more steps. */
async function restored(to) {
  const stages = onTheWay('tokenizer');
  const { width, height } = await sharp(stages[0].file).metadata();
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
      .extract({ left: Math.round(i * cell), top: 0, width: Math.round(cell), height: height - gap })
      .toBuffer();
  const parts = [await column(stages[0].file, 0)];
  for (const { step, file } of stages) {
    parts.push(await column(file, counts));
    const { psnr } = log.find((line) => line.step === step - 1);
    console.log(`tokenizer, ${step} steps: ${Object.values(psnr).at(-1).toFixed(1)} dB`);
  }
  await inOneRow(parts, to);
}

/** Sheets of samples, a row for each class, after ever more steps. */
async function samples(to) {
  const stages = onTheWay('ar');
  const parts = [];
  for (const { step, file } of stages) {
    const { width, height } = await sharp(file).metadata();
    const narrow = { left: 0, top: 0, width: Math.round(width / 2), height };
    parts.push(await sharp(file).extract(narrow).resize({ height: 480, kernel: 'nearest' }).toBuffer());
    console.log(`AR model, ${step} steps`);
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
