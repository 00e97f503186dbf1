// Feeds inputs to one target and reports on file descriptor 3: one line of JSON for each event.
//   node child.mjs TARGET SEED FIRST LAST SECONDS FOLDER
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';

const [, , targetName, seed, first, last, seconds, folder] = process.argv;
const report = (event) => fs.writeSync(3, `${JSON.stringify(event)}\n`);
const { mkdir, writeFile } = fs.promises;
const allocated = { bytes: 0 };
const strays = [];
watchAllocations();
watchFiles();

const { DetailFlowError } = await import('@detailflow/core');
const { Violation } = await import('./checks.mjs');
const { makeInput, targets } = await import('./targets.mjs');
const { Random } = await import('./random.mjs');
const target = targets.find(({ name }) => name === targetName);

let rejection;
process.on('unhandledRejection', (reason) => {
  rejection = reason;
});

/** As many inputs as are asked for, however slow the machine is: then no time is a finding. */
const UNLIMITED = 1e9;
const ends = Date.now() + 1000 * Number(seconds);
let outcomes = {};
for (let i = Number(first); i <= Number(last) && Date.now() < ends; i++) {
  report({ begin: i });
  const input = makeInput(target, new Random(seed, targetName, i), i);
  const result = await once(input, i);
  outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1;
  if (result.finding) report({ finding: result.finding, iteration: i });
  if (i % 200 === 199) flush();
}
flush();
report({ done: true });

function flush() {
  report({ outcomes });
  outcomes = {};
}

async function once(input, i) {
  const save = async (files) => {
    const place = path.join(folder, String(i));
    for (const [name, bytes] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(place, name)), { recursive: true });
      await writeFile(path.join(place, name), bytes);
    }
    return place;
  };
  const size = Object.values(input.files).reduce((sum, bytes) => sum + bytes.length, 0);
  const peak = process.resourceUsage().maxRSS;
  const cpu = process.cpuUsage();
  allocated.bytes = 0;
  let outcome = 'read';
  let finding;
  try {
    await target.run(input, save);
  } catch (error) {
    if (error instanceof Violation) finding = `does not hold: ${error.message}`;
    else if (!DetailFlowError.isInstance(error)) finding = `untyped error: ${describe(error)}`;
    else if (error.file === undefined) finding = `no file named: ${describe(error)}`;
    else if (error.message.length > 10_000) finding = `a message of ${error.message.length} characters`;
    outcome = DetailFlowError.isInstance(error) ? error.code : 'finding';
  }
  await new Promise((resolve) => setImmediate(resolve));
  const { user, system } = process.cpuUsage(cpu);
  const took = (user + system) / 1e6;
  const grown = (process.resourceUsage().maxRSS - peak) / 1024;
  const megabytes = (target.megabytes ?? 150) + (20 * size) / 2 ** 20;
  if (Number(seconds) < UNLIMITED && took > (target.seconds ?? 2)) finding ??= `took ${took.toFixed(1)} s`;
  if (grown > megabytes) finding ??= `${grown.toFixed(0)} MB more memory for ${size} bytes`;
  if (allocated.bytes / 2 ** 20 > megabytes)
    finding ??= `${(allocated.bytes / 2 ** 20).toFixed(0)} MB of arrays for ${size} bytes`;
  if (rejection !== undefined) finding ??= `unhandled rejection: ${describe(rejection)}`;
  if (strays.length > 0) finding ??= `touched ${strays.join(', ')}`;
  rejection = undefined;
  strays.length = 0;
  fs.rmSync(path.join(folder, String(i)), { recursive: true, force: true });
  return { outcome: finding ? 'finding' : outcome, finding };
}

function describe(error) {
  return error instanceof Error ? (error.stack ?? error.message).slice(0, 1500) : String(error);
}

/** Counts the bytes of arrays, which need not show in the resident set. */
function watchAllocations() {
  const names = [
    'ArrayBuffer',
    'Uint8Array',
    'Uint16Array',
    'Uint32Array',
    'Int32Array',
    'Float32Array',
    'Float64Array',
    'BigUint64Array',
    'BigInt64Array',
  ];
  for (const name of names) {
    const Original = globalThis[name];
    const width = Original.BYTES_PER_ELEMENT ?? 1;
    globalThis[name] = new Proxy(Original, {
      construct(_, args, newTarget) {
        const made = Reflect.construct(Original, args, newTarget === globalThis[name] ? Original : newTarget);
        if (typeof args[0] === 'number') allocated.bytes += args[0] * width;
        return made;
      },
    });
  }
}

/** The code under test only reads. */
function watchFiles() {
  for (const name of [
    'mkdir',
    'writeFile',
    'rename',
    'rm',
    'symlink',
    'link',
    'copyFile',
    'appendFile',
    'unlink',
  ]) {
    const original = fs.promises[name];
    fs.promises[name] = (...args) => {
      strays.push(`${name} ${args[0]}`);
      return original(...args);
    };
  }
  const { open } = fs.promises;
  const writing = fs.constants.O_WRONLY | fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC;
  fs.promises.open = (file, flags, ...rest) => {
    const reads = typeof flags === 'number' ? (flags & writing) === 0 : flags === undefined || flags === 'r';
    if (!reads) strays.push(`open ${file} ${flags}`);
    return open(file, flags, ...rest);
  };
  syncBuiltinESMExports();
}
