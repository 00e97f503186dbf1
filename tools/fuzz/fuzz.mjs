// Fuzzes every reader of files from elsewhere. Whatever they hold, a reader either loads them or throws a
// DetailFlowError that names the file; it does not hang, take memory out of proportion, crash or touch other files.
//   node tools/fuzz/fuzz.mjs [--seconds N | --inputs N] [--seed S] [--target NAME] [--iteration I]
// With --inputs every target gets so many, however long that takes.
// Input I of a target depends on seed, target and I alone. Inputs that break a rule are kept in runs/fuzz/, with
// the command that makes them again; the exit code is then 1.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from './random.mjs';
import { makeInput, targets } from './targets.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    inputs: { type: 'string' },
    seed: { type: 'string', default: '1' },
    target: { type: 'string' },
    iteration: { type: 'string' },
  },
});
const chosen = values.target === undefined ? targets : targets.filter(({ name }) => name === values.target);
if (chosen.length === 0 || !(Number(values.seconds) > 0) || !(Number(values.inputs ?? 1) > 0)) {
  console.error(
    `usage: fuzz.mjs [--seconds N | --inputs N] [--seed S] [--target ${targets.map(({ name }) => name).join('|')}] [--iteration I]`,
  );
  process.exit(2);
}

/** An input for which nothing happens for so long will never end. */
const patience = 60_000;
const mostFindings = 20;
const UNLIMITED = 1e9;
const runs = fileURLToPath(new URL('../../runs/fuzz/', import.meta.url));
let findings = 0;
const seconds = values.inputs === undefined ? Number(values.seconds) / chosen.length : UNLIMITED;
for (const target of chosen) await fuzz(target, seconds);
console.log(
  findings === 0
    ? `no findings (seed ${values.seed})`
    : `${findings} findings (seed ${values.seed}), kept in ${runs}`,
);
process.exitCode = findings === 0 ? 0 : 1;

async function fuzz(target, seconds) {
  const begun = Date.now();
  const only = values.iteration === undefined ? undefined : Number(values.iteration);
  const last = only ?? (values.inputs === undefined ? Number.MAX_SAFE_INTEGER : Number(values.inputs) - 1);
  const outcomes = {};
  let found = 0;
  let next = only ?? 0;
  while (next <= last && found < mostFindings) {
    const left = seconds - (Date.now() - begun) / 1000;
    if (left <= 0) break;
    const { reached, crash } = await runChild(target, next, last, left, {
      outcomes: (counts) => {
        for (const [name, count] of Object.entries(counts)) outcomes[name] = (outcomes[name] ?? 0) + count;
      },
      finding: async (iteration, what) => {
        found++;
        await keep(target, iteration, what);
      },
    });
    if (crash === undefined) break;
    if (reached < next) throw new Error(`the fuzzer itself does not start: ${crash}`);
    found++;
    await keep(target, reached, crash);
    next = reached + 1;
  }
  findings += found;
  const total = Object.values(outcomes).reduce((a, b) => a + b, 0);
  const rate = total / ((Date.now() - begun) / 1000);
  const counts = Object.entries(outcomes)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`);
  console.log(`${target.name.padEnd(12)} ${total} inputs, ${rate.toFixed(0)}/s: ${counts.join(', ')}`);
}

/** Runs inputs in a process of their own; `crash` says why it ended before its time. */
async function runChild(target, first, last, seconds, on) {
  const folder = await mkdtemp(path.join(tmpdir(), 'detailflow-fuzz-'));
  const args = [target.name, values.seed, first, last, seconds, folder].map(String);
  const child = spawn(
    process.execPath,
    ['--max-old-space-size=512', fileURLToPath(new URL('child.mjs', import.meta.url)), ...args],
    { stdio: ['ignore', 'inherit', 'pipe', 'pipe'], cwd: folder },
  );
  let complaint = '';
  child.stderr.on('data', (data) => {
    complaint = (complaint + data).slice(-3000);
  });
  let reached = first - 1;
  let done = false;
  let hung = false;
  const kill = () => {
    hung = true;
    child.kill('SIGKILL');
  };
  let timer = setTimeout(kill, patience);
  const kept = [];
  createInterface({ input: child.stdio[3] }).on('line', (line) => {
    clearTimeout(timer);
    timer = setTimeout(kill, patience);
    const event = JSON.parse(line);
    if (event.begin !== undefined) reached = event.begin;
    if (event.outcomes) on.outcomes(event.outcomes);
    if (event.finding) kept.push(on.finding(event.iteration, event.finding));
    if (event.done) done = true;
  });
  const [code, signal] = await new Promise((resolve) => child.once('close', (...result) => resolve(result)));
  clearTimeout(timer);
  await Promise.all(kept);
  await rm(folder, { recursive: true, force: true });
  if (done && code === 0) return { reached };
  const end = hung
    ? `no end within ${patience / 1000} s`
    : `the process died (${signal ?? `exit code ${code}`})`;
  return { reached, crash: `${end}\n${complaint}` };
}

async function keep(target, iteration, what) {
  const place = path.join(runs, `${target.name}-${values.seed}-${iteration}`);
  const again = `node tools/fuzz/fuzz.mjs --target ${target.name} --seed ${values.seed} --iteration ${iteration}`;
  console.log(`${target.name} ${iteration}: ${what}\n  again: ${again}`);
  const { files } = makeInput(target, new Random(values.seed, target.name, iteration), iteration);
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(place, name)), { recursive: true });
    await writeFile(path.join(place, name), bytes);
  }
  await writeFile(path.join(place, 'finding.txt'), `${what}\n${again}\n`);
}
