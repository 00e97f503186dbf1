import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** Programs whose worker thread, not their main thread, makes a backend. */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'worker-thread-'));
});
afterAll(() => rm(folder, { recursive: true }));

const from = (file: string) => JSON.stringify(new URL(file, import.meta.url).href);

/** What the thread does; `say` tells the main thread a word. */
const thread = (work: string) => `
  import { parentPort } from 'node:worker_threads';
  import { createNodeBackend } from ${from('../dist/index.js')};
  import { add, matmul, Tensor, trace, weightFromArray } from ${from('../../core/dist/index.js')};
  const say = (word) => parentPort.postMessage(word);
  const side = 256;
  const heavy = trace((g) => {
    let x = g.input('x', 'f32', [side, side]);
    for (let i = 0; i < 1000; i++) x = matmul(x, x);
    return { y: x };
  });
  const x = new Tensor('float32', new Float32Array(side * side).fill(1 / side), [side, side]);
  const backend = await createNodeBackend({ threads: 1 });
  ${work}
`;

/** Runs a program that starts the thread; it hears its words from `next()`. */
async function program(name: string, work: string, main: string) {
  const file = path.join(folder, `${name}.mjs`);
  await writeFile(file, thread(work));
  await writeFile(
    path.join(folder, `${name}-main.mjs`),
    `import { Worker } from 'node:worker_threads';
     import { once } from 'node:events';
     const worker = new Worker(${JSON.stringify(file)});
     const next = async () => (await once(worker, 'message'))[0];
     ${main}`,
  );
  const options = { timeout: 50_000, killSignal: 'SIGKILL' as const };
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [path.join(folder, `${name}-main.mjs`)],
    options,
  );
  return { lines: stdout.trim().split('\n'), stderr };
}

test('a thread that is terminated while a model computes takes nothing down, and its child ends', async () => {
  const work = `
    const executable = await backend.compile(heavy, new Map());
    say('computing');
    await executable.run({ x });
    say('done');
  `;
  const main = `
    import { readFileSync, readdirSync } from 'node:fs';
    const children = () => readdirSync('/proc').filter((id) => /^\\d+$/.test(id)).filter((id) => {
      try {
        const [state, parent] = readFileSync('/proc/' + id + '/stat', 'utf8').split(') ')[1].split(' ');
        return state !== 'Z' && parent === String(process.pid);
      } catch { return false; }
    });
    console.log(await next());
    await new Promise((resolve) => setTimeout(resolve, 20));
    const before = process.platform === 'linux' ? children().length : 1;
    await worker.terminate();
    while (process.platform === 'linux' && children().length > 0) await new Promise((r) => setTimeout(r, 20));
    console.log(before, 'and then none');
  `;
  expect(await program('terminated', work, main)).toEqual({
    lines: ['computing', '1 and then none'],
    stderr: '',
  });
});

test('a thread that forgets to close ends by itself, and so does one that closes', async () => {
  const work = (last: string) => `
    const executable = await backend.compile(heavy, new Map());
    const { y } = await executable.run({ x });
    say(y.data[side] * side);
    ${last}
  `;
  const main = `console.log(await next()); console.log(await once(worker, 'exit'));`;
  for (const [name, last] of [
    ['forgets', ''],
    ['closes', 'await backend.close();'],
  ]) {
    expect(await program(name, work(last), main)).toEqual({ lines: ['1', '[ 0 ]'], stderr: '' });
  }
});

test('computes as elsewhere: state, weights of more bytes than one message takes, errors', async () => {
  const work = `
    const wide = 4200; // 70 MB of weights, in two parts
    const product = trace((g) => ({ y: matmul(g.input('x', 'f32', [1, wide]), g.weight('w', [wide, wide])) }));
    const w = Float32Array.from({ length: wide * wide }, (_, i) => (i % (wide + 1) === 0 ? i / (wide + 1) : 0));
    const big = await backend.compile(product, new Map([['w', weightFromArray('w', [wide, wide], w)]]));
    const { y } = await big.run({ x: new Tensor('float32', new Float32Array(wide).fill(1), [1, wide]) });
    say([y.data[1], y.data[1234], y.data[wide - 1]]);

    const sum = trace((g) => {
      const total = g.state('total', [2]);
      const next = add(total, g.input('x', 'f32', [2]));
      g.update('total', next);
      return { next };
    });
    const executable = await backend.compile(sum, new Map());
    const state = await executable.createState({});
    const one = new Tensor('float32', Float32Array.of(1, 2), [2]);
    await executable.run({ x: one }, { state });
    const { next } = await executable.run({ x: one }, { state });
    say([...next.data, ...(await state.read('total')).data]);
    await backend.close();
    say(await executable.run({ x: one }, { state }).catch((error) => error.code));
  `;
  const main = `
    worker.on('message', (word) => console.log(JSON.stringify(word)));
    await once(worker, 'exit');
  `;
  expect(await program('computes', work, main)).toEqual({
    lines: ['[1,1234,4199]', '[2,4,2,4]', '"closed"'],
    stderr: '',
  });
});
