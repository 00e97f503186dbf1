// Times an evaluation on the CPU, and the same with PyTorch and SciPy where python3 has them.
//   node tools/bench-eval.mjs [--images 48] [--rounds 3] [--rows 10000] [--threads N] [--python PROGRAM]
// Inception features of 256-pixel images per second (weights by formula, the same on both sides); the Frechet distance
// of full-rank statistics of 2048 features; statistics, KID, precision and recall of --rows features; and the memory of
// 50,000 images' features, and of a run over 2,000 images, in processes of their own.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { RandomStream, weightFromArray } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { shapesDataset } from '@detailflow/data';
import {
  collectFeatures,
  datasetSource,
  formatStatistics,
  frechetDistance,
  GaussianStatistics,
  inceptionExtractor,
  kernelDistance,
  precisionRecall,
} from '@detailflow/eval';
import { folderStore, openExtractor } from '@detailflow/eval/node';
import { inceptionParameters } from '@detailflow/features';

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '48' },
    rounds: { type: 'string', default: '3' },
    rows: { type: 'string', default: '10000' },
    threads: { type: 'string', default: String(availableParallelism()) },
    python: { type: 'string', default: 'python3' },
    memory: { type: 'boolean', default: false },
    run: { type: 'string' },
  },
});
const [images, rounds, rows, threads] = [values.images, values.rounds, values.rows, values.threads].map(
  Number,
);
const width = 2048;
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

if (values.memory) {
  await measureMemory();
  process.exit();
}
if (values.run) {
  await measureRun(values.run);
  process.exit();
}

const folder = mkdtempSync(path.join(tmpdir(), 'bench-eval-'));
const backend = await createNodeBackend({ threads });
try {
  console.log(`${cpus()[0].model}, ${threads} threads`);
  await features();
  statistics();
  await distances();
  for (const args of [['--memory'], ['--run', path.join(folder, 'inception.safetensors')]]) {
    spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...args], { stdio: 'inherit' });
  }
  const script = path.join(path.dirname(fileURLToPath(import.meta.url)), 'pytorch-eval-baseline.py');
  const args = [
    script,
    folder,
    '--images',
    values.images,
    '--rounds',
    values.rounds,
    '--threads',
    values.threads,
  ];
  const python = spawnSync(values.python, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (python.status === 0) console.log(python.stdout.trim());
  else console.log(`no PyTorch beside it: ${values.python} has no torch or scipy`);
} finally {
  await backend.close();
  rmSync(folder, { recursive: true });
}

async function features() {
  const weights = new Map(
    inceptionParameters().map(({ name, shape }) => {
      const random = new RandomStream({ seed: 1, purpose: 900, position: hash(name) });
      const scale = shape.length > 1 ? Math.sqrt(6 / shape.slice(1).reduce((a, b) => a * b, 1)) : 0.1;
      const shift = /running_var$|bn\.weight$/.test(name) ? 1 : 0;
      const array = Float32Array.from(
        { length: shape.reduce((a, b) => a * b, 1) },
        () => shift + scale * (2 * random.uniform() - 1),
      );
      return [name, weightFromArray(name, shape, array)];
    }),
  );
  await writeWeights(path.join(folder, 'inception.safetensors'), weights);
  const random = new RandomStream({ seed: 1, purpose: 901, position: 0 });
  const data = Uint8Array.from({ length: images * 256 * 256 * 3 }, () => random.integer(256));
  writeFileSync(path.join(folder, 'images.bin'), data);
  const extractor = inceptionExtractor({ weights, backend });
  const batch = 16;
  const run = async () => {
    const pools = [];
    for (let at = 0; at < images; at += batch) {
      const count = Math.min(batch, images - at);
      const part = data.subarray(at * 256 * 256 * 3, (at + count) * 256 * 256 * 3);
      pools.push((await extractor.extract({ data: part, count, height: 256, width: 256 })).pool.slice());
    }
    return pools;
  };
  const pools = await run();
  writeFileSync(
    path.join(folder, 'pool.bin'),
    Buffer.concat(pools.map((pool) => new Uint8Array(pool.buffer))),
  );
  const rates = [];
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    await run();
    rates.push((1000 * images) / (performance.now() - started));
  }
  console.log(
    `Inception features: ${median(rates).toFixed(2)} images/s (rounds ${rates.map((r) => r.toFixed(2)).join(', ')})`,
  );
  await extractor.dispose();
}

/** Features that depend on each other, as real ones do: every one is mixed of two random ones. */
function correlated(count, position) {
  const random = new RandomStream({ seed: 2, purpose: 902, position });
  const out = new Float32Array(count * width);
  for (let row = 0; row < count; row++) {
    let before = random.uniform();
    for (let k = 0; k < width; k++) {
      const fresh = random.uniform() - 0.4;
      out[row * width + k] = Math.max(0, 0.7 * before + fresh) * (1 + (k % 7) / 3);
      before = fresh;
    }
  }
  return out;
}

function statistics() {
  const gaussians = [0, 1].map((position) => {
    const rows = correlated(5000, position);
    const made = new GaussianStatistics(width);
    const started = performance.now();
    made.add(rows);
    console.log(`mean and covariance of 5000 x ${width}: ${seconds(started)} s`);
    return made.finish();
  });
  for (const [i, pool] of gaussians.entries()) {
    writeFileSync(path.join(folder, `statistics${i}.npz`), formatStatistics({ pool }));
  }
  const times = [];
  let distance = 0;
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    distance = frechetDistance(gaussians[0], gaussians[1]);
    times.push(Number(seconds(started)));
  }
  console.log(`Frechet distance of ${width} features: ${median(times).toFixed(1)} s, ${distance}`);
}

async function distances() {
  const [a, b] = [correlated(rows, 2), correlated(rows, 3)];
  let started = performance.now();
  await kernelDistance(a, b, { width, backend });
  console.log(`KID, 100 subsets of 1000 of ${rows} x ${width}: ${seconds(started)} s`);
  started = performance.now();
  await precisionRecall(a, b, { width, backend });
  console.log(`precision and recall of ${rows} and ${rows} x ${width}: ${seconds(started)} s`);
}

/** 50,000 images whose features come from a formula, with spatial features and logits as Inception has them. */
async function measureMemory() {
  const total = 50_000;
  const fill = (count, columns, salt) =>
    Float32Array.from({ length: count * columns }, (_, i) => ((i * 7919 + salt) % 1009) / 1009);
  const extractor = {
    ...{ name: 'formula', width, spatialWidth: 2023, classes: 1008 },
    async extract({ count, data }) {
      const salt = data[0];
      return {
        pool: fill(count, width, salt),
        spatial: fill(count, 2023, salt),
        logits: fill(count, 1008, salt),
      };
    },
    async dispose() {},
  };
  const source = {
    name: 'numbers',
    labels: new Int32Array(total),
    async read(first, count) {
      return { data: Uint8Array.of(first % 251), count, height: 1, width: 1 };
    },
  };
  const started = performance.now();
  const found = await collectFeatures(source, { extractor });
  const peak = process.resourceUsage().maxRSS / 2 ** 10;
  console.log(
    `${found.count} images, features ${width} + 2023 + 1008: ${seconds(started)} s, at most ${peak.toFixed(0)} MiB`,
  );
}

/** 2,000 images through the network and into all statistics, with shards kept on disk. */
async function measureRun(network) {
  const kept = mkdtempSync(path.join(tmpdir(), 'bench-run-'));
  const backend = await createNodeBackend({ threads });
  const extractor = await openExtractor(network, backend);
  const source = datasetSource(shapesDataset({ images: 2000, size: 64 }));
  const started = performance.now();
  const store = folderStore(kept, { origin: '' });
  const { count } = await collectFeatures(source, { extractor, store, batch: 16 });
  const peak = process.resourceUsage().maxRSS / 2 ** 10;
  console.log(`${count} images of 64 pixels: ${seconds(started)} s, at most ${peak.toFixed(0)} MiB`);
  await extractor.dispose();
  await backend.close();
  rmSync(kept, { recursive: true });
}

async function writeWeights(file, weights) {
  const plan = encodeSafetensors([...weights.values()]);
  const parts = [plan.header];
  for (const { entry } of plan.tensors) parts.push(await entry.read());
  writeFileSync(file, Buffer.concat(parts));
}

function hash(text) {
  return [...text].reduce((sum, char) => (Math.imul(sum, 31) + char.charCodeAt(0)) >>> 0, 7);
}

function seconds(started) {
  return ((performance.now() - started) / 1000).toFixed(1);
}
