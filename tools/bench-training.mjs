// Times training steps on the CPU, and the same steps of plain PyTorch after them where python3 has torch.
//   node tools/bench-training.mjs [--seconds 20] [--rounds 3] [--threads N] [--replicas N] [--only NAME] [--python PROGRAM] [--json FILE] [--profile]
// Tokenizers: the preset tiny-32, and the one PyTorch trained as reference (32 tokens, batch 64, correction in 35 % of
// the steps), and the preset emoji-64 (with varying numbers of tokens, as in its training). Prints images per second (median of the rounds), the share of the matrix product's peak that was measured
// in the same run, the time to compile, and the anonymous memory that steps added at most. Replicas compute micro-batches side by side and share the threads; by default each
// has one. With --profile says instead where the time of a step goes, by operation.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { expandComposites, RandomStream } from '@detailflow/core';
import {
  parseTrainingConfig,
  TokenizerTrainer,
  TokenModelTrainer,
  tokenizerStepGraph,
  tokenModelStepGraph,
} from '@detailflow/train';
import { matmulPeak } from './matmul-peak.mjs';
import { memoryMiB } from './memory.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    python: { type: 'string', default: 'python3' },
    json: { type: 'string' },
    profile: { type: 'boolean', default: false },
    replicas: { type: 'string' },
    only: { type: 'string' },
  },
});
const [seconds, rounds, wanted] = [values.seconds, values.rounds, values.threads].map(Number);
const threads = Math.min(wanted, availableParallelism()); // one backend each
if (threads < wanted) console.error(`${threads} threads instead of ${wanted}: there are no more cores`);
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

const tiny = parseTrainingConfig({ preset: 'tiny-32' });
const emoji = parseTrainingConfig({ preset: 'emoji-64' });
const reference = parseTrainingConfig({
  preset: 'tiny-32',
  tokenizer: {
    model: { tokens: 32, groupSize: 4, causalTokens: 4 },
    ...{ batch: 64, microBatch: 8, correction: 0.35 },
  },
});

const profiles = values.profile ? mkdtempSync(path.join(tmpdir(), 'profile-')) : undefined;
const replicas = Math.min(threads, Number(values.replicas ?? threads));
const backends = [];
for (let i = 0; i < replicas; i++) {
  const each = Math.max(1, Math.floor(threads / replicas));
  backends.push(
    await createNodeBackend({ threads: each, profile: profiles && path.join(profiles, 'graph') }),
  );
}
const whole = await createNodeBackend({ threads });
const peak = await matmulPeak(whole);
console.log(
  `${cpus()[0].model}, ${threads} threads, ${replicas} replicas; matrix product peak ${peak.toFixed(0)} GFLOP/s`,
);

const results = { cpu: cpus()[0].model, threads, peakGflops: peak, steps: [] };
for (const [name, run] of [
  ['tokenizer as PyTorch trained it', () => tokenizerSteps(reference)],
  ['tokenizer tiny-32', () => tokenizerSteps(tiny)],
  ['AR model tiny-32', () => tokenModelSteps(tiny)],
  ['tokenizer emoji-64', () => tokenizerSteps(emoji)],
  ['AR model emoji-64', () => tokenModelSteps(emoji)],
].filter(([name]) => values.only === undefined || name.includes(values.only))) {
  const before = memoryMiB()?.anonymous ?? 0;
  const found = { name, ...(await run()) };
  found.memoryMiB = found.held === undefined ? undefined : found.held - before;
  results.steps.push(found);
  if (profiles) {
    printProfile(name);
    continue;
  }
  console.log(
    `${name}: ${found.imagesPerSecond.toFixed(0)} images/s (rounds ${found.rounds.map((r) => r.toFixed(0)).join(', ')}), ` +
      `${found.gflops.toFixed(0)} GFLOP/s in matrix products, ${(100 * found.shareOfPeak).toFixed(0)} % of the peak; ` +
      `compiled in ${(found.compileMs / 1000).toFixed(2)} s; ${found.memoryMiB ?? '?'} MiB`,
  );
}
for (const backend of [...backends, whole]) await backend.close();

if (profiles) {
  rmSync(profiles, { recursive: true });
  process.exit();
}
if (values.only === undefined && replicas === threads) beside();
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);

/** The same steps in PyTorch, which knows no replicas. */
function beside() {
  const script = path.join(path.dirname(fileURLToPath(import.meta.url)), 'pytorch-training-baseline.py');
  const args = [script, '--seconds', values.seconds, '--rounds', values.rounds, '--threads', values.threads];
  const torch = spawnSync(values.python, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (torch.status !== 0) {
    console.log(`no PyTorch beside it: ${values.python} has no torch`);
    return;
  }
  results.pytorch = torch.stdout.trim().split('\n');
  console.log(torch.stdout.trim());
}

async function tokenizerSteps({ tokenizer, seed }) {
  const { model: config, recipe, batch } = tokenizer;
  const trainer = await TokenizerTrainer.create({ config, recipe, backends, seed });
  const images = noise(batch * 3 * config.imageSize ** 2, (random) => 2 * random.uniform() - 1);
  const { microBatch, correction, quantiser } = recipe;
  const flopsOf = (isCorrected) =>
    matmulFlops(tokenizerStepGraph({ config, microBatch, correction: isCorrected, quantiser })) *
    (batch / microBatch);
  const found = await timed(trainer, () => trainer.train(images), {
    batch,
    flops: (report) => flopsOf(report.variant.noiseIndex !== null),
    warm: (reports) => new Set(reports.map(({ variant }) => variant.noiseIndex !== null)).size === 2,
  });
  return { ...found, correction };
}

async function tokenModelSteps({ tokenModel, seed }) {
  const { recipe, batch } = tokenModel;
  const config = { ...tokenModel.model, classes: 10 };
  const trainer = await TokenModelTrainer.create({ config, recipe, backends, seed });
  const codes = Int32Array.from(
    noise(batch * config.tokens, (random) => random.integer(config.vocabularySize)),
  );
  const labels = Int32Array.from({ length: batch }, (_, i) => i % 10);
  const { microBatch, dropout } = recipe;
  const flops = matmulFlops(tokenModelStepGraph({ config, microBatch, dropout })) * (batch / microBatch);
  const rows = { labels, clean: codes, input: codes, target: codes };
  return timed(trainer, () => trainer.train(rows), {
    batch,
    flops: () => flops,
    warm: (reports) => reports.length > 0,
  });
}

/** Compiles, then steps for the given seconds, several times. */
async function timed(trainer, step, { batch, flops, warm }) {
  const started = performance.now();
  const first = [];
  while (!warm(first)) first.push(await step());
  const again = performance.now();
  await step();
  const compileMs = again - started - first.length * (performance.now() - again);
  const rates = [];
  let [operations, elapsed] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    let steps = 0;
    while (performance.now() - begun < 1000 * seconds) {
      operations += flops(await step());
      steps++;
    }
    const took = (performance.now() - begun) / 1000;
    elapsed += took;
    rates.push((steps * batch) / took);
  }
  const held = memoryMiB()?.anonymous;
  await trainer.dispose();
  const gflops = operations / elapsed / 1e9;
  return {
    imagesPerSecond: median(rates),
    rounds: rates,
    gflops,
    shareOfPeak: gflops / peak,
    compileMs,
    held,
  };
}

/** Shares of the time of all operations that the graphs of a step spent, by kind; the profiles are removed. */
function printProfile(name) {
  const times = new Map();
  for (const file of readdirSync(profiles).map((one) => path.join(profiles, one))) {
    for (const { cat, dur, args } of JSON.parse(readFileSync(file, 'utf8'))) {
      const kind = args?.op_name;
      if (cat === 'Node' && kind) times.set(kind, (times.get(kind) ?? 0) + dur);
    }
    rmSync(file);
  }
  const total = [...times.values()].reduce((a, b) => a + b, 0);
  const sorted = [...times].sort((a, b) => b[1] - a[1]);
  const shown = sorted.slice(0, 14);
  const rest = sorted.slice(14).reduce((sum, [, time]) => sum + time, 0);
  console.log(`${name}, shares of the time in operations`);
  for (const [kind, time] of [...shown, ['others', rest]]) {
    console.log(`  ${((100 * time) / total).toFixed(1).padStart(5)} %  ${kind}`);
  }
}

/** Operations of all matrix products of a graph, forward and backward. */
function matmulFlops(graph) {
  return expandComposites(graph).nodes.reduce((sum, { op, inputs, attrs, shape }) => {
    if (op !== 'matmul') return sum;
    const [a] = inputs;
    const inner = a.shape.at(attrs.transposeA ? -2 : -1);
    return sum + 2 * inner * shape.reduce((x, y) => x * y, 1);
  }, 0);
}

function noise(length, draw) {
  const random = new RandomStream({ seed: 1, purpose: 999, position: 0 });
  return Float32Array.from({ length }, () => draw(random));
}
