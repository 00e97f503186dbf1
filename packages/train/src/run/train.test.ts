import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseTrainingConfig } from '../training-config';
import { readSnapshot } from './checkpoint-file';
import { RunFolder } from './run-folder';
import { type TrainOptions, train } from './train';

const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const settings = {
  preset: 'tiny-32',
  replicas: 1,
  data: { fit: 'crop', heldOut: 0.2, flip: true },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: 24, batch: 8, warmup: 3, averageDecay: 0.9, correction: 0.5 },
    revival: { every: 2, until: 0.8, patience: 3 },
  },
  tokenModel: {
    model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 },
    ...{ steps: 16, batch: 8, microBatch: 8, warmup: 3, dropout: 0.2, averageDecay: 0.9 },
  },
  checkpoints: { every: 5, keep: 2 },
  validation: { every: 9, images: 8 },
};

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'train-'));
});
afterAll(async () => rm(home, { recursive: true }));

const options = (out: string, over: Partial<TrainOptions> = {}): TrainOptions => ({
  part: 'all',
  config: parseTrainingConfig(settings),
  data: 'shapes:60x16',
  out: path.join(home, out),
  createBackend: ({ threads }) => createNodeBackend({ threads }),
  ...over,
});

const logOf = (out: string, stage: string) => readFile(path.join(home, out, stage, 'log.jsonl'), 'utf8');

async function expectSameRun(one: string, other: string): Promise<void> {
  for (const [stage, step] of [
    ['tokenizer', 24],
    ['ar', 16],
  ]) {
    expect(await logOf(one, `${stage}`)).toBe(await logOf(other, `${stage}`));
    const [a, b] = await Promise.all(
      [one, other].map((out) =>
        readSnapshot(
          path.join(
            home,
            out,
            `${stage}`,
            'checkpoints',
            `step-${String(step).padStart(9, '0')}.safetensors`,
          ),
        ),
      ),
    );
    expect(Object.keys(a.tensors)).toEqual(Object.keys(b.tensors));
    for (const [name, { data }] of Object.entries(a.tensors))
      expect(data, name).toEqual(b.tensors[name].data);
  }
}

test('a whole run: curves fall, and a run that is stopped and resumed is the same to the last bit', async () => {
  await train(options('whole'));
  const losses = (await logOf('whole', 'tokenizer'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).loss);
  expect(losses).toHaveLength(24);
  expect(losses.at(-1)).toBeLessThan(losses[0]);
  expect(await readFile(path.join(home, 'whole', 'report.html'), 'utf8')).toContain('Loss by position');

  for (let stop = 0; stop < 4; stop++) {
    const controller = new AbortController();
    let steps = 0;
    const stopped = train(
      options('stopped', {
        resume: true,
        signal: controller.signal,
        onProgress: ({ stage }) => {
          if (stage !== 'codes' && ++steps >= 5) controller.abort(new Error('stop'));
        },
      }),
    );
    await expect(stopped).rejects.toThrow('stop');
  }
  await train(options('stopped', { resume: true }));
  await expectSameRun('whole', 'stopped');
}, 240_000);

/** A program that trains into a folder, with --resume, and ends with 0. */
async function runProgram(out: string): Promise<string> {
  const dist = new URL('../../dist/', import.meta.url);
  const script = path.join(home, `${out}.mjs`);
  const { createBackend: _, signal: __, ...plain } = options(out, { resume: true });
  await writeFile(
    script,
    `import { train } from ${JSON.stringify(new URL('node.js', dist).href)};
     import { createNodeBackend } from ${JSON.stringify(new URL('../../../backend-node/dist/index.js', import.meta.url).href)};
     await train({ ...${JSON.stringify(plain)}, createBackend: ({ threads }) => createNodeBackend({ threads }) });`,
  );
  return script;
}

test('a run that is killed at any moment goes on from its last checkpoint, to the same end', async () => {
  const script = await runProgram('killed');
  const run = (killAfter?: number) =>
    new Promise<number | null>((resolve) => {
      const child = spawn(process.execPath, [script], { stdio: 'ignore' });
      const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter);
      child.on('exit', (code) => {
        clearTimeout(timer);
        resolve(code);
      });
    });
  for (let i = 0; i < 5; i++) await run(400 + 900 * Math.random());
  expect(await run()).toBe(0);
  await expectSameRun('whole', 'killed');
});

test.skipIf(process.platform === 'win32')('a disk that takes no more bytes loses no checkpoint', async () => {
  const controller = new AbortController();
  const begun = train(
    options('full', {
      part: 'all',
      signal: controller.signal,
      onProgress: (progress) => {
        if (progress.stage === 'tokenizer' && progress.step >= 7) controller.abort(new Error('stop'));
      },
    }),
  );
  await expect(begun).rejects.toThrow('stop');
  const checkpoints = path.join(home, 'full', 'tokenizer', 'checkpoints');
  const before = await readdir(checkpoints);
  expect(before.length).toBeGreaterThan(0);

  // Files may not grow beyond 8 kB: the next checkpoint cannot be written.
  const script = await runProgram('full');
  const run = (limit: string) =>
    new Promise<{ code: number | null; stderr: string }>((resolve) => {
      const command = `trap '' XFSZ; ulimit -f ${limit}; exec "$0" "$1"`;
      const child = spawn('sh', ['-c', command, process.execPath, script], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let stderr = '';
      child.stderr.on('data', (data) => (stderr += data));
      child.on('exit', (code) => resolve({ code, stderr }));
    });
  const failed = await run('16');
  expect(failed.code).not.toBe(0);
  expect(failed.stderr).toMatch(/cannot be written: EFBIG/);
  expect(await readdir(checkpoints)).toEqual(before);

  expect((await run('unlimited')).code).toBe(0);
  await expectSameRun('whole', 'full');
});

test('two runs in one folder, an earlier run, other settings, other sizes', async () => {
  const folder = await RunFolder.open(path.join(home, 'held'), { settings: {}, resume: false });
  await expect(train(options('held'))).rejects.toThrow(/another run is at work/);
  await folder.close();

  await expect(train(options('whole'))).rejects.toThrow(/holds a run; add --resume/);
  const config = parseTrainingConfig({
    ...settings,
    tokenizer: { ...settings.tokenizer, learningRate: 0.5 },
  });
  await expect(train(options('whole', { resume: true, config }))).rejects.toThrow(
    /other settings \("learningRate": 0.001 became "learningRate": 0.5\)/,
  );
  await expect(train(options('none', { part: 'ar' }))).rejects.toThrow(/train it first/);
});

test('a run that diverges stops, names the step, and keeps the last good checkpoint', async () => {
  const config = parseTrainingConfig({
    ...settings,
    tokenizer: { ...settings.tokenizer, learningRate: 1, clip: 1e9, initialFactor: 0, warmup: 24 },
  });
  const wild = { ...config.tokenizer.recipe, learningRate: 1e30 };
  const tokenizer = { ...config.tokenizer, recipe: wild };
  const failing = train(options('wild', { part: 'tokenizer', config: { ...config, tokenizer } }));
  await expect(failing).rejects.toMatchObject({
    code: 'diverged',
    message: expect.stringMatching(/step \d+/),
  });
});

test('no more replicas are made than there are cores, and that is said', async () => {
  const notices: string[] = [];
  const made: number[] = [];
  const controller = new AbortController();
  const run = train(
    options('replicas', {
      config: { ...options('').config, replicas: 1000 },
      signal: controller.signal,
      createBackend: ({ threads }) => createNodeBackend({ threads: made.push(threads) && threads }),
      onProgress: () => controller.abort(new Error('enough')),
      onNotice: (message) => notices.push(message),
    }),
  );
  await expect(run).rejects.toThrow('enough');
  const cores = availableParallelism();
  expect(made).toEqual(Array(cores).fill(1));
  expect(notices).toEqual([`${cores} of 1000 replicas are made: there are no more cores`]);
});

test('the AR model can be trained on the tokenizer of a bundle', async () => {
  await train(options('first'));
  const bundle = await readBundle(await openFolder(path.join(home, 'first', 'bundle')));
  const { tokenizer } = options('').config;
  const given = { config: tokenizer.model, weights: bundle.tokenizer };
  try {
    await train(options('second', { tokenizer: given }));
    // The same codes, so the same curve.
    expect(await logOf('second', 'ar')).toBe(await logOf('first', 'ar'));
    await expect(train(options('third', { tokenizer: given, part: 'tokenizer' }))).rejects.toThrow(
      'none to train',
    );
    const other = { ...given, config: { ...given.config, codebookSize: 64 } };
    await expect(train(options('third', { tokenizer: other }))).rejects.toThrow(
      'tokenizer.model.codebookSize: the tokenizer that was given has 64, the settings say 32',
    );
  } finally {
    await bundle.close();
  }
}, 120_000);
