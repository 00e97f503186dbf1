// The ablations of the model card: what self-correction, groups, the number of tokens and the codebook change, at an
// equal, small budget.
//   node tools/model-card/ablations.mjs DATA OUT [--images 16000] [--count 2000]
// DATA is a folder of IDX files (.gz), of whose training images the first are used. Each variant is trained from nothing and then draws pictures, which the classifier of
// @detailflow/model-fashion-32 judges. Runs that are interrupted go on where they were.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { classifierUrl } from '@detailflow/model-fashion-32';
import { load } from 'detailflow';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    images: { type: 'string', default: '16000' },
    count: { type: 'string', default: '2000' },
    cfg: { type: 'string', default: '1,2' },
  },
});
const [data, out] = positionals;
if (!data || !out) {
  console.error('usage: node tools/model-card/ablations.mjs DATA OUT [--count N] [--cfg LIST]');
  process.exit(2);
}
const cli = fileURLToPath(new URL('../../packages/detailflow/dist/cli.js', import.meta.url));

/** A tenth of the training of the model in the box. */
const budget = {
  preset: 'tiny-32',
  tokenizer: { steps: 500, warmup: 50 },
  tokenModel: { steps: 800, warmup: 80, averageDecay: 0.99 },
  validation: { every: 500, images: 256 },
};
const variants = {
  'groups of 8, self-correction': {},
  'groups of 8, no self-correction': { tokenizer: { correction: 0 }, tokenModel: { correction: 0 } },
  'groups of 1, self-correction': { tokenizer: { model: { groupSize: 1, causalTokens: 1 } } },
  '32 tokens in groups of 4': { tokenizer: { model: { tokens: 32, groupSize: 4, causalTokens: 4 } } },
  'codebook of 4096': { tokenizer: { model: { codebookSize: 4096 } } },
};

const images = firstImages(Number(values.images));
const rows = [];
for (const [name, over] of Object.entries(variants)) {
  const folder = path.join(out, name.replaceAll(/[ ,]+/g, '-'));
  mkdirSync(folder, { recursive: true });
  const config = path.join(folder, 'settings.json');
  const merged = {
    ...budget,
    tokenizer: { ...budget.tokenizer, ...over.tokenizer },
    tokenModel: { ...budget.tokenModel, ...over.tokenModel },
  };
  writeFileSync(config, JSON.stringify(merged, null, 2));
  const run = path.join(folder, 'run');
  detailflow('train', 'all', '--config', config, '--data', images, '--out', run, '--resume');
  const bundle = path.join(run, 'bundle');
  const figures = path.join(folder, 'eval');
  detailflow(
    ...['eval', 'generation', '--model', bundle, '--data', images, '--fit', 'pad', '--out', figures],
    ...['--features', fileURLToPath(classifierUrl), '--count', values.count, '--cfg', values.cfg],
  );
  const { rows: judged } = JSON.parse(readFileSync(path.join(figures, 'generation.json'), 'utf8'));
  const log = readFileSync(path.join(run, 'tokenizer', 'log.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const psnr = log.map((line) => JSON.parse(line).psnr).findLast((found) => found !== undefined);
  const last = log.map((line) => JSON.parse(line)).findLast((found) => found.usage !== undefined);
  const generated = judged.map(({ cfg, frechet, agreement }) => ({ cfg, frechet, agreement: agreement.all }));
  rows.push({ name, bundle, psnr, usage: last?.usage, generated });
}
const times = await seconds(rows.map(({ bundle }) => bundle));
for (const [i, { bundle, ...row }] of rows.entries()) {
  console.log(JSON.stringify({ ...row, secondsPerImage: times[i] }));
}

/** The data set with fewer training images. */
function firstImages(count) {
  const folder = path.join(out, 'data');
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(data).filter((file) => /-ubyte(\.gz)?$/.test(file))) {
    const bytes = name.endsWith('.gz')
      ? gunzipSync(readFileSync(path.join(data, name)))
      : readFileSync(path.join(data, name));
    const header = 4 + 4 * bytes[3]; // the last byte of the magic number says how many extents follow
    const all = bytes.readUInt32BE(4);
    const kept = name.startsWith('train') ? Math.min(count, all) : all;
    const cut = bytes.subarray(0, header + ((bytes.length - header) / all) * kept);
    cut.writeUInt32BE(kept, 4);
    writeFileSync(path.join(folder, name.replace(/\.gz$/, '')), cut);
  }
  return folder;
}

function detailflow(...args) {
  const { status } = spawnSync(process.execPath, [cli, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(status ?? 1);
}

/** Of each model the least seconds for a picture alone, CFG 2, of 20: the models take turns, one at a time is loaded. */
async function seconds(bundles) {
  const times = bundles.map(() => []);
  for (let round = 0; round < 4; round++) {
    for (const [i, bundle] of bundles.entries()) {
      const model = await load(bundle);
      for (let seed = 0; seed < 6; seed++) {
        const started = performance.now();
        for await (const step of model.generate({ labels: [seed], seed, cfg: 2 })) {
          if (step.count === step.total) await step.pixels();
        }
        if (seed > 0) times[i].push((performance.now() - started) / 1000); // the first one compiles
      }
      await model.dispose();
    }
  }
  return times.map((found) => Math.min(...found));
}
