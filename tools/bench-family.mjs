// Times full-size models of all families side by side on the CPU, with random weights, 256 pixels, guidance as published.
//   npm run bench -- family [--systems VAR,LlamaGen] [--dtype fp32,q8] [--batch 1,4] [--rounds 1] [--threads 2] [--small] [--json FILE]
// Prints seconds per image, tokens, steps, the share of the decoder and memory. Weights are made once, in runs/family-*
// (some gigabytes at full size). --small: a few layers, to see that it works; its figures mean nothing.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { cpus } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { systems } from './family-systems.mjs';

const { values } = parseArgs({
  options: {
    systems: { type: 'string', default: '' },
    dtype: { type: 'string', default: 'fp32,q8' },
    batch: { type: 'string', default: '1,4' },
    rounds: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
    small: { type: 'boolean', default: false },
    json: { type: 'string' },
    child: { type: 'string' },
  },
});
const size = values.small ? 'small' : 'full';
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const folderOf = (name) => path.join(root, 'runs', `family-${size}`, name.replaceAll(/\W+/g, '-'));
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

if (values.child) {
  const [name, dtype] = values.child.split('|');
  console.log(JSON.stringify(await measure(name, dtype)));
} else await compare();

async function compare() {
  const wanted = values.systems.split(',').filter(Boolean);
  const names = Object.keys(systems).filter(
    (name) => wanted.length === 0 || wanted.some((one) => name.startsWith(one)),
  );
  if (names.length === 0) {
    console.error(`--systems "${values.systems}": there are ${Object.keys(systems).join('; ')}`);
    process.exit(2);
  }
  const results = [];
  for (const name of names) {
    await make(name);
    for (const dtype of values.dtype.split(',')) {
      // Each in a process of its own, so that its memory is its own.
      const args = [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--child', `${name}|${dtype}`];
      const child = spawnSync(process.execPath, args, {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      if (child.status !== 0) process.exit(1);
      results.push(JSON.parse(child.stdout.trim().split('\n').at(-1)));
    }
  }
  print(results);
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
}

async function make(name) {
  const folder = folderOf(name);
  if (existsSync(path.join(folder, 'config.json'))) return;
  console.error(`making ${name} ...`);
  const { writeBundle } = await import('@detailflow/checkpoint/node');
  await mkdir(path.dirname(folder), { recursive: true });
  const { family, make: halves } = systems[name];
  await writeBundle(folder, { family, name, license: 'none: random weights', ...halves(size) });
}

async function measure(name, dtype) {
  const { createNodeBackend } = await import('@detailflow/backend-node');
  const { load } = await import('detailflow');
  const { matmulPeak } = await import('./matmul-peak.mjs');
  const threads = Number(values.threads);
  const backend = await createNodeBackend({ device: 'cpu', threads });
  const peak = await matmulPeak(backend);
  const model = await load(folderOf(name), { backend, dtype });
  const { cfg = model.cfg } = systems[name];
  const batches = [];
  for (const batch of values.batch.split(',').map(Number)) {
    const labels = Array.from({ length: batch }, (_, i) => 100 * i);
    // Once for compiling and for the pages of the weights.
    for await (const step of model.generate({ labels: [0], cfg })) {
      if (step.count === step.total) await step.pixels();
    }
    const rounds = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      const started = performance.now();
      let [steps, decoder] = [0, 0];
      for await (const step of model.generate({ labels, cfg, seed: round })) {
        steps++;
        if (step.count < step.total) continue;
        const drawn = performance.now();
        await step.pixels();
        decoder = (performance.now() - drawn) / 1000;
      }
      rounds.push({ seconds: (performance.now() - started) / 1000, decoder, steps });
    }
    const seconds = median(rounds.map((one) => one.seconds));
    const decoder = median(rounds.map((one) => one.decoder));
    batches.push({
      batch,
      secondsPerImage: seconds / batch,
      steps: rounds[0].steps,
      decoderShare: decoder / seconds,
    });
  }
  const result = {
    ...{ name, dtype, tokens: model.tokenModel.tokens, cfg, threads, cpu: cpus()[0].model, peakGflops: peak },
    ...{ memory: memoryMiB(), batches },
  };
  await model.dispose();
  await backend.close();
  return result;
}

/** Memory of this process: its own pages at most, and those of mapped files. Linux only. */
function memoryMiB() {
  if (!existsSync('/proc/self/status')) return undefined;
  const status = readFileSync('/proc/self/status', 'utf8');
  const of = (name) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024);
  return { anonymous: of('RssAnon'), mappedFiles: of('RssFile'), peak: of('VmHWM') };
}

function print(results) {
  const [{ cpu, threads, peakGflops }] = results;
  console.log(
    `${cpu}, ${threads} threads, matrix product peak ${peakGflops.toFixed(0)} GFLOP/s; 256 pixels, ${size} size`,
  );
  console.log('| system | dtype | CFG | tokens | steps | batch | s a picture | decoder | memory, MiB |');
  console.log('|---|---|---:|---:|---:|---:|---:|---:|---:|');
  for (const { name, dtype, cfg, tokens, memory, batches } of results) {
    for (const { batch, secondsPerImage, steps, decoderShare } of batches) {
      const cells = [name, dtype, cfg, tokens, steps, batch, secondsPerImage.toFixed(2)];
      console.log(
        `| ${[...cells, `${(100 * decoderShare).toFixed(0)} %`, memory?.peak ?? '-'].join(' | ')} |`,
      );
    }
  }
}
