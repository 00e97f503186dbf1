// Trains DetailFlow, LlamaGen, PAR and VAR at equal budget on Fashion-MNIST, and measures all by the same code:
//   npm run compare -- --data DIR [--out runs/comparison] [--systems llamagen,par] [--train-images 6000] [--tokenizer-steps 110]
//                      [--ar-steps 60] [--pictures 1000] [--images 1000] [--stop-after MINUTES] [--times]
//                      [--write docs/family/comparison.md]
// Equal are images seen, batches, optimiser, schedule and number of codes to choose from; parameters within 10 % (presets tiny-32,
// llamagen-32, par-32, var-32). What is done is kept in --out: the same command goes on where it was stopped, and ends with the
// table. --times: also seconds a picture, all systems in turn, which say something only on a machine that does nothing else.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createNodeBackend } from '@detailflow/backend-node';
import { llamagenTraining, parTraining } from '@detailflow/llamagen/trainable';
import { mergeSettings, parseRunSettings } from '@detailflow/train';
import { train } from '@detailflow/train/node';
import { varTraining } from '@detailflow/var/trainable';
import { load } from 'detailflow';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const packages = path.join(root, 'packages');
const judge = path.join(packages, 'model-fashion-32', 'classifier.safetensors');
const families = [llamagenTraining, parTraining, varTraining];
const systems = {
  detailflow: { title: 'DetailFlow', preset: 'tiny-32' },
  llamagen: { title: 'LlamaGen', preset: 'llamagen-32' },
  par: { title: 'PAR, 4 regions', preset: 'par-32' },
  var: { title: 'VAR, 6 scales', preset: 'var-32' },
};
const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string', default: path.join(root, 'runs', 'comparison') },
    systems: { type: 'string', default: Object.keys(systems).join() },
    'train-images': { type: 'string', default: '6000' },
    'tokenizer-steps': { type: 'string', default: '110' },
    'ar-steps': { type: 'string', default: '60' },
    pictures: { type: 'string', default: '1000' },
    images: { type: 'string', default: '1000' },
    'stop-after': { type: 'string' },
    times: { type: 'boolean', default: false },
    write: { type: 'string' },
  },
});
const fail = (message) => {
  console.error(message);
  process.exit(2);
};
const whole = (name) => {
  const value = Number(values[name]);
  return Number.isInteger(value) && value > 0
    ? value
    : fail(`--${name} ${values[name]}: give a whole number from 1`);
};
if (values.data === undefined) fail('--data is missing: a folder with the four files of Fashion-MNIST');
const names = values.systems.split(',');
const unknown = names.find((name) => !Object.hasOwn(systems, name));
if (unknown !== undefined) fail(`--systems ${unknown}: there are ${Object.keys(systems).join(', ')}`);
const budget = {
  trainImages: whole('train-images'),
  tokenizerSteps: whole('tokenizer-steps'),
  arSteps: whole('ar-steps'),
};
const measured = { pictures: whole('pictures'), images: whole('images') };
const deadline = values['stop-after'] === undefined ? undefined : Date.now() + 60_000 * whole('stop-after');
const place = (...parts) => path.join(values.out, ...parts);

/** Guidance scales, constant for all: 1 is none. */
const SCALES = [1, 1.5];
/** Pictures of a measurement of time, and measurements. */
const [BATCH, ROUNDS] = [4, 9];

mkdirSync(values.out, { recursive: true });
const data = fewerImages(budget.trainImages);
for (const name of names) {
  await trainSystem(name);
  await measureSystem(name);
}
if (values.times) await timeSystems();
const known = Object.keys(systems).filter((name) => knownOf(name).restored);
const table = tableOf(known.map((name) => ({ ...systems[name], ...knownOf(name) })));
console.log(table);
if (values.write) writeTable(values.write);

/** What is known of a system; `more` is added. */
function knownOf(name, more) {
  const file = place(`${name}.json`);
  const before = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  if (!more) return before;
  const now = { ...before, ...more };
  writeFileSync(file, `${JSON.stringify(now, null, 2)}\n`);
  return now;
}

/** The first images of Fashion-MNIST to learn from, so that few of them are encoded; all of those that are held out. */
function fewerImages(count) {
  const folder = place('fashion-mnist');
  mkdirSync(folder, { recursive: true });
  for (const [name, header, size] of [
    ['train-images-idx3-ubyte.gz', 16, 28 * 28],
    ['train-labels-idx1-ubyte.gz', 8, 1],
    ['t10k-images-idx3-ubyte.gz', 16, 28 * 28],
    ['t10k-labels-idx1-ubyte.gz', 8, 1],
  ]) {
    const source = path.join(values.data, name);
    if (!existsSync(source)) fail(`${source} is missing: --data takes the four files of Fashion-MNIST`);
    if (!name.startsWith('train')) {
      copyFileSync(source, path.join(folder, name));
      continue;
    }
    const all = gunzipSync(readFileSync(source));
    if (all.readUInt32BE(4) < count)
      fail(`${source} has ${all.readUInt32BE(4)} images; --train-images ${count}`);
    const few = Buffer.from(all.subarray(0, header + count * size));
    few.writeUInt32BE(count, 4);
    writeFileSync(path.join(folder, name), gzipSync(few));
  }
  return folder;
}

/** Settings of a run: those of its preset but for the budget, and means over as much of a short run as of a long one. */
function settingsOf(name) {
  const { tokenizerSteps, arSteps } = budget;
  const every = Math.max(tokenizerSteps, arSteps);
  const over = {
    tokenizer: { steps: tokenizerSteps, warmup: Math.ceil(0.03 * tokenizerSteps) },
    tokenModel: {
      ...{ steps: arSteps, warmup: Math.ceil(0.02 * arSteps) },
      averageDecay: Math.min(0.999, 1 - 10 / arSteps),
    },
    checkpoints: { every: 20, keep: 1 },
    validation: { every, images: 256 },
  };
  return parseRunSettings(mergeSettings({ preset: systems[name].preset }, over), { families, family: name });
}

async function trainSystem(name) {
  const before = knownOf(name);
  if (before.budget && JSON.stringify(before.budget) !== JSON.stringify(budget)) {
    fail(
      `${values.out} holds runs of another budget (${JSON.stringify(before.budget)}): choose another --out`,
    );
  }
  if (before.isTrained) return;
  console.error(`training ${name}`);
  const started = process.cpuUsage();
  const stopAfter = deadline === undefined ? undefined : Math.max(1, deadline - Date.now());
  const controller = new AbortController();
  const stop = () => controller.abort(new Error('stopped'));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  let stopped = true;
  try {
    const result = await train({
      ...{ part: 'all', ...settingsOf(name), data, out: place(name), resume: true },
      ...(stopAfter !== undefined && { stopAfter }),
      signal: controller.signal,
      createBackend: ({ threads }) => createNodeBackend({ threads }),
      onProgress: ({ stage, step, steps }) => {
        if (step % 20 === 0) console.error(`  ${stage} ${step}/${steps}`);
      },
    });
    stopped = result.stopped !== undefined;
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    const { user, system } = process.cpuUsage(started);
    const seconds = (before.trainingCpu ?? 0) + (user + system) / 1e6;
    knownOf(name, { budget, trainingCpu: seconds, isTrained: !stopped });
  }
  if (!stopped) return;
  console.error(`stopped while training ${name}; the same command goes on`);
  process.exit(3);
}

async function measureSystem(name) {
  const before = knownOf(name);
  if (JSON.stringify(before.measured) === JSON.stringify(measured)) return;
  console.error(`measuring ${name}`);
  const bundle = place(name, 'bundle');
  const model = await load(bundle);
  const { tokens, schedule } = model.tokenModel;
  await model.dispose();
  const inspected = detailflow('inspect', bundle);
  const judged = (what, ...more) =>
    detailflow('eval', what, '--model', bundle, '--data', data, '--features', judge, ...more);
  const restored = judged(
    'tokenizer',
    ...['--tokens', `${tokens}`, '--count', `${measured.images}`],
    ...['--out', place(name, 'eval-tokenizer')],
  );
  const drawn = judged(
    'generation',
    ...['--count', `${measured.pictures}`, '--cfg', SCALES.join(), '--guidance', 'constant'],
    ...['--temperature', '1', '--top-k', '0', '--top-p', '1', '--out', place(name, 'eval-generation')],
  );
  knownOf(name, {
    ...{ measured, tokens, steps: schedule.length, agreementOfReal: drawn.accuracy },
    parameters: { tokenizer: inspected.tokenizer.parameters, ar: inspected.ar.parameters },
    restored: restored.restorations.at(-1),
    usage: restored.usage,
    drawn: drawn.summary,
  });
}

/** Runs the command line; what it prints as JSON. */
function detailflow(...args) {
  const cli = path.join(packages, 'detailflow', 'dist', 'cli.js');
  const found = spawnSync(process.execPath, [cli, ...args, '--json'], {
    ...{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28 },
  });
  if (found.status !== 0) process.exit(1);
  return JSON.parse(found.stdout);
}

/** Seconds a picture of batches of {@link BATCH} with guidance: medians of rounds in which every system has its turn. */
async function timeSystems() {
  const trained = Object.keys(systems).filter((name) => knownOf(name).isTrained);
  const models = new Map();
  for (const name of trained) models.set(name, await load(place(name, 'bundle')));
  const seconds = new Map(trained.map((name) => [name, []]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, model] of models) {
      const started = performance.now();
      const labels = Array.from({ length: BATCH }, (_, i) => i);
      for await (const step of model.generate({
        labels,
        seed: 4 * (round + 1),
        cfg: 1.5,
        guidance: 'constant',
      })) {
        if (step.count === step.total) await step.pixels();
      }
      if (round >= 0) seconds.get(name).push((performance.now() - started) / 1000 / BATCH);
    }
  }
  const machine = `${cpus()[0]?.model.trim()}, ${availableParallelism()} threads`;
  for (const [name, model] of models) {
    await model.dispose();
    const sorted = seconds.get(name).sort((a, b) => a - b);
    knownOf(name, { seconds: sorted[Math.floor(sorted.length / 2)], machine });
  }
}

function tableOf(rows) {
  const number = (x, digits) => (x === undefined ? '-' : x.toFixed(digits));
  const millions = (x) => `${(x / 1e6).toFixed(2)} M`;
  const cells = rows.map((row) => {
    const { title, parameters, tokens, steps, restored, usage, drawn, trainingCpu, seconds } = row;
    return [
      ...[title, millions(parameters.tokenizer), millions(parameters.ar), `${tokens}`, `${steps}`],
      ...[number(restored.psnr, 2), number(restored.frechet, 2), `${number(100 * usage, 0)} %`],
      ...drawn.map(({ frechet }) => number(frechet.mean, 2)),
      ...drawn.map(({ agreement }) => `${number(100 * agreement.mean, 1)} %`),
      ...[`${number(trainingCpu / 60, 1)} min`, seconds === undefined ? 'not measured' : number(seconds, 4)],
    ];
  });
  const heads = [
    ...['system', 'tokenizer', 'AR model', 'tokens', 'steps', 'PSNR dB', 'Frechet restored', 'codes in use'],
    ...SCALES.map((scale) => `Frechet drawn, CFG ${scale}`),
    ...SCALES.map((scale) => `class agreement, CFG ${scale}`),
    ...['training, CPU', 's a picture'],
  ];
  const line = (row) => `| ${row.join(' | ')} |`;
  const rule = `|${heads.map(() => '---').join('|')}|`;
  const found = rows.find(({ agreementOfReal }) => agreementOfReal !== undefined);
  const { tokenizerSteps, arSteps, trainImages } = budget;
  const notes = [
    `Budget of each: ${tokenizerSteps} steps of 32 images (tokenizer), ${arSteps} of 64 (AR model), drawn from ${trainImages}. Measured with ${measured.images} held-out images and ${measured.pictures} drawn ones.`,
    ...(found
      ? [`Of the real held-out images the judge names ${number(100 * found.agreementOfReal, 1)} % rightly.`]
      : []),
    ...rows
      .filter(({ machine }) => machine)
      .slice(0, 1)
      .map(({ machine }) => `Seconds: ${machine}, batches of ${BATCH}, CFG 1.5.`),
  ];
  return [line(heads), rule, ...cells.map(line), '', ...notes].join('\n');
}

/** Puts the table into a page, between its marks. */
function writeTable(file) {
  const text = readFileSync(file, 'utf8');
  const marks = /(<!-- table -->\n)[\s\S]*?(\n<!-- end of table -->)/;
  if (!marks.test(text)) fail(`${file} has no <!-- table --> ... <!-- end of table -->`);
  writeFileSync(
    file,
    text.replace(marks, (_, begin, end) => `${begin}\n${table}\n${end}`),
  );
}
