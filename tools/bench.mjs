// Times a full-size generator (DetailFlow-16/32/64 and GPT-L, random weights), on the CPU or a GPU.
//   node tools/bench.mjs [--device cpu|cuda|webgpu] [--tokens 128|256|512] [--dtype fp32,fp16,q8,q4] [--stored] [--batch 1,4] [--rounds 3] [--threads N]
//     [--python /usr/bin/python3] [--beside DIR|NAME=VALUE ...] [--json FILE]
// --stored loads q8 and q4 from bundles that are converted once (runs/), instead of rounding while loading.
// --python times tools/pytorch-baseline.py as well; every round all take their turn, so that they share the machine's minutes.
// --beside adds the same generator of another checkout of this repository that is built (with packages that still fit together), or with
// another environment, such as GLIBC_TUNABLES=glibc.malloc.hugetlb=1: what a change gains is measured by turns, too.
// On webgpu it is @detailflow/backend-webgpu that computes, in fp32 and fp16 (halves); milliseconds by step are those of asking for it there.
// Prints medians: seconds per image (and the worst round), milliseconds per step by step size, the decoder, load time, memory, and the
// matrix product's peak, which is measured in the same run.
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { answerTurns, Participant } from './bench-turns.mjs';
import { memoryMiB } from './memory.mjs';

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '128' },
    device: { type: 'string', default: 'cpu' },
    dtype: { type: 'string' },
    batch: { type: 'string', default: '1,4' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    decoder: { type: 'string', default: 'released' },
    stored: { type: 'boolean', default: false },
    python: { type: 'string' },
    beside: { type: 'string', multiple: true, default: [] },
    library: { type: 'string' },
    json: { type: 'string' },
    child: { type: 'string' },
  },
});
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const generator = path.join('runs', `full-${values.tokens}-${values.decoder}`);
/** Another checkout may have files of its own. */
const home = values.library && existsSync(path.join(values.library, generator)) ? values.library : root;
const folder = path.join(home, generator);
const dtypes = (values.dtype ?? { cpu: 'fp32,q8,q4', webgpu: 'fp32,fp16' }[values.device] ?? 'fp32').split(
  ',',
);
const sizes = values.batch.split(',').map(Number);
/** Few bits, which bundles can be stored in. */
const isRounded = (dtype) => dtype === 'q8' || dtype === 'q4';
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

if (values.child) await measure(values.child);
else await compare();

async function compare() {
  if (!existsSync(path.join(folder, 'ar', 'checkpoints', '0000000.pt'))) {
    console.error('making the checkpoint ...');
    const script = path.join(root, 'tools', 'make-checkpoint.mjs');
    execFileSync(process.execPath, [script, folder, '--tokens', values.tokens, '--decoder', values.decoder]);
  }
  for (const dtype of values.stored ? dtypes : []) {
    if (!isRounded(dtype) || existsSync(`${folder}-${dtype}`)) continue;
    const script = path.join(root, 'packages', 'detailflow', 'dist', 'cli.js');
    const args = ['convert', '--model', folder, '--dtype', dtype, '--out', `${folder}-${dtype}`];
    execFileSync(process.execPath, [script, ...args], { stdio: ['ignore', 2, 2] });
  }
  // Each in a process of its own, so that its memory is its own.
  const self = [fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const participants = dtypes.flatMap((dtype) => {
    const own = [...self, '--child', dtype];
    return [
      { name: dtype, start: () => new Participant(process.execPath, own) },
      ...values.beside.map((other) => {
        const [, name, value] = /^(\w+)=(.*)$/.exec(other) ?? [];
        const args = name === undefined ? [...own, '--library', path.resolve(other)] : own;
        const env = name === undefined ? {} : { [name]: value };
        return {
          name: `${dtype}, ${other}`,
          dtype,
          start: () => new Participant(process.execPath, args, env),
        };
      }),
    ];
  });
  if (values.python) {
    const script = path.join(root, 'tools', 'pytorch-baseline.py');
    const args = [script, '--turns', '--batch', ...sizes.map(String), '--threads', values.threads];
    participants.unshift({ name: 'PyTorch', start: () => new Participant(values.python, args) });
  }
  for (const one of participants) {
    one.process = one.start();
    one.ready = await one.process.answer();
    one.rounds = [];
  }
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const one of participants) one.rounds.push(await one.process.ask('round'));
  }
  const results = [];
  for (const { process, ready, rounds, name } of participants) {
    const end = await process.ask('end');
    process.end();
    results.push({
      name,
      ...ready,
      ...end,
      batches: sizes.map((batch, i) =>
        summary(
          batch,
          rounds.map((all) => all[i]),
        ),
      ),
    });
  }
  const baseline = results.find(({ name }) => name === 'PyTorch');
  for (const result of results) print(result, baseline);
  printTable(results, baseline);
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
}

/** A package of this checkout, or of the one that is measured beside it. */
function library(name) {
  const file = path.join(values.library ?? root, 'packages', name, 'dist', 'index.js');
  return import(pathToFileURL(file).href);
}

/** @returns medians of the rounds of one batch size, and the worst */
function summary(batch, rounds) {
  const seconds = rounds.map((round) => round.seconds);
  const steps = rounds.flatMap((round) => round.steps ?? []);
  const ofSize = (size) => median(steps.filter((step) => step.size === size).map((step) => step.ms));
  return {
    batch,
    secondsPerImage: median(seconds) / batch,
    worst: Math.max(...seconds) / batch,
    steps: rounds[0].steps?.length,
    stepMs: Object.fromEntries(
      [...new Set(steps.map(({ size }) => size))].map((size) => [size, ofSize(size)]),
    ),
    worstStepMs: Math.max(...steps.map(({ ms }) => ms)),
    decoderMs: median(rounds.map((round) => round.decoder)),
    flops: rounds[0].flops,
    memory: rounds.at(-1).memory,
  };
}

/** The process of one dtype: loads, then one round of every batch size whenever it is asked. */
async function measure(dtype) {
  const { load } = await library('detailflow');
  const { matmulPeak } = await import('./matmul-peak.mjs');
  const threads = Number(values.threads);
  const { backend, processor } = await openBackend(values.device, threads);
  const peak = await matmulPeak(backend);
  const loading = performance.now();
  const model = await load(values.stored && isRounded(dtype) ? `${folder}-${dtype}` : folder, {
    backend,
    dtype,
  });
  await drain(model.generate({ labels: [0], cfg: 1.45, tokens: 1 }));
  const firstToken = performance.now() - loading;
  const decoding = performance.now();
  await drain(model.generate({ labels: [0], cfg: 1.45 }), (step) => step.pixels());
  const firstImage = performance.now() - decoding;
  let seed = 0;

  const ready = {
    ...{ tokens: model.tokenizer.tokens, threads, processor, peakGflops: peak },
    ...{
      firstTokenMs: firstToken,
      firstImageMs: firstImage,
      weightsMiB: (await weightBytes(model, dtype)) / 2 ** 20,
    },
  };
  await answerTurns(ready, async (question) => {
    if (question === 'round') {
      const all = [];
      for (const batch of sizes) all.push(await draw(model, batch, seed));
      seed++;
      return all;
    }
    const memory = memoryMiB();
    await model.dispose();
    await backend.close();
    return { memory };
  });
}

/** Draws a batch and decodes it, all timed. */
async function draw(model, batch, seed) {
  const { schedule, config } = model.tokenModel;
  const labels = Array.from({ length: batch }, (_, i) => (100 * i) % config.classes);
  const steps = [];
  const started = performance.now();
  let last = started;
  let decoder = 0;
  let memory;
  await drain(model.generate({ labels, cfg: 1.45, seed }), async (step) => {
    const now = performance.now();
    steps.push({ size: schedule[steps.length], ms: now - last });
    last = now;
    if (step.count < step.total) return;
    await step.tokens(); // a device may still be at work on the steps
    memory = memoryMiB(); // with the keys and values of all pictures
    const drawn = performance.now();
    await step.pixels();
    decoder = performance.now() - drawn;
  });
  const seconds = (performance.now() - started) / 1000;
  return { seconds, decoder, steps, flops: generationFlops(model, batch), memory };
}

/** @returns the backend, and what it computes on */
async function openBackend(device, threads) {
  if (device !== 'webgpu') {
    const { createNodeBackend } = await library('backend-node');
    return { backend: await createNodeBackend({ device, threads }), processor: cpus()[0].model };
  }
  const { provideDriver } = await import('./webgpu/driver.mjs');
  const missing = provideDriver();
  if (missing) throw new Error(missing);
  const { createWebGPUBackend } = await library('backend-webgpu');
  const backend = await createWebGPUBackend();
  const { vendor, architecture, description } = backend.device.adapterInfo ?? {};
  return { backend, processor: [vendor, architecture, description].filter(Boolean).join(' ') || 'unknown' };
}

async function drain(steps, visit) {
  for await (const step of steps) await visit?.(step);
}

/** Operations of the matrix products with weights: what the share of the peak counts. */
function generationFlops(model, batch) {
  const { dim, heads, kvHeads, layers, hiddenDim, vocabularySize, tokens } = model.tokenModel.config;
  const layer = dim * (heads + 2 * kvHeads) * (dim / heads) + dim * dim + 3 * dim * hiddenDim;
  const ar = 2 * (layers * layer + dim * vocabularySize) * tokens * 2 * batch;
  const { width, mlpWidth, layers: depth, patchSize } = model.tokenizer.config.decoder;
  const patches = (model.tokenizer.imageSize / patchSize) ** 2;
  const decoder = 2 * depth * (4 * width ** 2 + 2 * width * mlpWidth) * (patches + tokens) * batch;
  return ar + decoder;
}

/** Bytes of the weights that a generation uses, as they are held. */
async function weightBytes(model, dtype) {
  const { stepGraph } = await library('ar-model');
  const { linearProducts, matrixFormats } = await library('onnx');
  const { dim, vocabularySize, classes } = model.tokenModel.config;
  const { decoderGraph } = await library('tokenizer');
  const own = dtype === 'fp16' ? 16 : 32;
  const bytesOf = (graph, kind) => {
    const formats = isRounded(kind) ? matrixFormats(graph, kind) : new Map();
    let bytes = 0;
    for (const [name, product] of linearProducts(graph)) {
      const [out, columns] = product.inputs[1].shape;
      const { bits, block } = formats.get(name) ?? { bits: own, block: Number.POSITIVE_INFINITY };
      bytes += out * columns * (bits / 8 + 4 / (block === 'row' ? columns : block));
    }
    return bytes;
  };
  const matrices = bytesOf(stepGraph(model.tokenModel.config), dtype);
  const decoder = bytesOf(decoderGraph(model.tokenizer.config), dtype === 'q4' ? 'q8' : dtype);
  return matrices + decoder + (own / 8) * (vocabularySize + classes + 1) * dim;
}

/** All of it once more, as a table for a page. */
function printTable(results, baseline) {
  const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
  const plainest = baseline ?? results[0];
  console.log('');
  row([
    '',
    'batch',
    's an image, median',
    'worst',
    `times as fast as ${plainest.name}`,
    'ms a step, by tokens',
    'decoder, ms',
    'MiB of the host',
  ]);
  row(Array.from({ length: 8 }, () => '---'));
  for (const { name, batches } of results) {
    for (const [index, { batch, secondsPerImage, worst, stepMs, decoderMs, memory }] of batches.entries()) {
      const ratio = plainest.batches[index].secondsPerImage / secondsPerImage;
      const steps = Object.entries(stepMs).map(([size, ms]) => `${size}: ${ms.toFixed(1)}`);
      row([
        ...[name, batch, secondsPerImage.toFixed(3), worst.toFixed(3), ratio.toFixed(2)],
        ...[steps.join(', '), decoderMs.toFixed(0), memory?.anonymous ?? ''],
      ]);
    }
  }
}

function print(result, baseline) {
  const { name, tokens, threads, processor, peakGflops, memory, weightsMiB } = result;
  console.log(
    `\n${name}: ${tokens} tokens, ${threads} threads, ${processor}; matrix product peak ${peakGflops.toFixed(0)} GFLOP/s`,
  );
  if (result.firstTokenMs !== undefined) {
    const [token, image] = [result.firstTokenMs, result.firstImageMs].map((ms) => (ms / 1000).toFixed(1));
    console.log(`  load and first token ${token} s, first image ${image} s`);
  }
  for (const [index, one] of result.batches.entries()) {
    const parts = [`${one.secondsPerImage.toFixed(2)} s/image, worst ${one.worst.toFixed(2)}`];
    if (baseline && result !== baseline) {
      parts.push(
        `${(baseline.batches[index].secondsPerImage / one.secondsPerImage).toFixed(1)} times as fast as PyTorch`,
      );
    }
    if (one.steps) {
      const steps = Object.entries(one.stepMs).map(([size, ms]) => `${ms.toFixed(0)} ms for ${size}`);
      parts.push(`${one.steps} steps, ${steps.join(', ')}, worst ${one.worstStepMs.toFixed(0)}`);
    }
    parts.push(`decoder ${one.decoderMs.toFixed(0)} ms`);
    if (one.flops) {
      const rate = one.flops / one.batch / one.secondsPerImage / 1e9;
      parts.push(`${rate.toFixed(0)} GFLOP/s, ${((100 * rate) / peakGflops).toFixed(0)} % of the peak`);
    }
    if (one.memory)
      parts.push(`anonymous ${one.memory.anonymous} MiB at the last step (peak so far ${one.memory.peak})`);
    console.log(`  batch ${one.batch}: ${parts.join('; ')}`);
  }
  if (memory) {
    console.log(
      `  memory: anonymous ${memory.anonymous} MiB (peak ${memory.peak}), mapped files ${memory.mappedFiles} MiB; ` +
        `the weights in use are ${weightsMiB.toFixed(0)} MiB (${(memory.anonymous / weightsMiB).toFixed(2)}x)`,
    );
  }
}
