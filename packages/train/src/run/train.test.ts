import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseTrainingConfig } from '../training-config';
import { bundleRun } from './bundle-run';
import { readSnapshot } from './checkpoint-file';
import { RunFolder } from './run-folder';
import { train } from './train';
import { trainClassifier } from './train-classifier';
import type { TrainOptions } from './train-options';

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

test('a run stops when its time is up, says where, and goes on to the same end', async () => {
  const none = await train(options('timed', { resume: true, stopAfter: 0 }));
  expect(none).toMatchObject({ stopped: { stage: 'tokenizer' } });
  expect(none.bundle).toBeUndefined();
  const some = await train(options('timed', { resume: true, stopAfter: 2000 }));
  expect(some.bundle === undefined).toBe(some.stopped !== undefined);
  const all = await train(options('timed', { resume: true }));
  expect(all.stopped).toBeUndefined();
  await expectSameRun('whole', 'timed');
}, 240_000);

test('what is held out is listed, goes into the bundle, and must stay the same', async () => {
  const listed = JSON.parse(await readFile(path.join(home, 'whole', 'held-out.json'), 'utf8'));
  expect(listed).toMatchObject({ images: 60, rule: { share: 0.2, seed: 1 } });
  expect(listed.list).toHaveLength(listed.heldOut);
  const { data } = JSON.parse(await readFile(path.join(home, 'whole', 'bundle', 'config.json'), 'utf8'));
  expect(data).toMatchObject({ fit: 'crop', heldOut: { images: 60, digest: listed.digest } });
  await expect(train(options('whole', { resume: true, data: 'shapes:61x16' }))).rejects.toThrow(
    /images are not those that this run was begun with/,
  );
});

test('a run is lengthened and shortened; what may not change is named; changes are noted', async () => {
  const tokenizer = (over: object) => ({ ...settings, tokenizer: { ...settings.tokenizer, ...over } });
  const run = (over: object, more: object = {}) =>
    train(
      options('longer', {
        ...{ part: 'tokenizer', resume: true },
        config: parseTrainingConfig({ ...tokenizer(over), ...more }),
      }),
    );
  await run({ steps: 8, warmup: 2 });
  await run(
    { steps: 12, warmup: 2 },
    { checkpoints: { every: 3, keep: 9 }, validation: { every: 4, images: 6 } },
  );
  const log = (await logOf('longer', 'tokenizer')).trim().split('\n');
  expect(log.map((line) => JSON.parse(line).step)).toEqual(Array.from({ length: 12 }, (_, i) => i));
  await run({ steps: 5, warmup: 2 }); // it is beyond that already
  expect((await logOf('longer', 'tokenizer')).trim().split('\n')).toHaveLength(12);
  // the AR model has not begun, so it may be another one
  await run({ steps: 12, warmup: 2 }, { tokenModel: { ...settings.tokenModel, dropout: 0.3 } });
  const changes = (await readFile(path.join(home, 'longer', 'changes.jsonl'), 'utf8')).trim().split('\n');
  expect(changes).toHaveLength(3);
  expect(JSON.parse(changes[0]).changes).toContainEqual({
    ...{ setting: 'tokenizer.recipe.schedule.steps', from: 8, to: 12 },
  });
  for (const [over, more, message] of [
    [{ degradation: 0.5 }, {}, /tokenizer\.recipe\.degradation: the run was begun.*--init/],
    [{}, { data: { ...settings.data, flip: false } }, /data\.flip/],
    [{ model: { ...settings.tokenizer.model, codebookSize: 64 } }, {}, /tokenizer\.model\.codebookSize/],
    [{}, { seed: 7 }, /seed/],
  ] as const) {
    await expect(run({ steps: 12, warmup: 2, ...over }, more)).rejects.toThrow(message);
  }
});

test('any checkpoint becomes a bundle, with the means that the recipe keeps', async () => {
  const run = path.join(home, 'whole');
  const [both, early] = [path.join(home, 'bundle-both'), path.join(home, 'bundle-early')];
  expect((await bundleRun({ run, out: both })).steps).toEqual({ tokenizer: 24, ar: 16 });
  for (const file of ['tokenizer.safetensors', 'ar.safetensors']) {
    expect(await readFile(path.join(both, file))).toEqual(await readFile(path.join(run, 'bundle', file)));
  }
  expect((await bundleRun({ run, out: early, stage: 'tokenizer', step: 20 })).steps).toEqual({
    tokenizer: 20,
  });
  expect(await readdir(early)).toEqual(['config.json', 'tokenizer.safetensors']);
  const snapshot = await readSnapshot(
    path.join(run, 'tokenizer', 'checkpoints', 'step-000000020.safetensors'),
  );
  const bundle = await readBundle(await openFolder(early));
  try {
    // an AR model does not go with a tokenizer that it was not trained on
    const { model } = options('').config.tokenizer;
    const other = { config: model, weights: bundle.tokenizer };
    await expect(bundleRun({ run, out: path.join(home, 'mixed'), tokenizer: other })).rejects.toThrow(
      /trained with another tokenizer/,
    );
    const weight = bundle.tokenizer.get('quant_conv.weight');
    expect(new Float32Array((await weight?.read())?.slice().buffer as ArrayBuffer)).toEqual(
      snapshot.tensors['ema.quant_conv.weight'].data,
    );
  } finally {
    await bundle.close();
  }
  await expect(bundleRun({ run, out: early, stage: 'tokenizer', step: 21 })).rejects.toThrow(
    /there are 20, 24/,
  );
  await expect(bundleRun({ run: path.join(home, 'nothing'), out: early })).rejects.toThrow(
    /settings of the run/,
  );
  await expect(bundleRun({ run, out: early })).rejects.toThrow(/exists already/);
});

test('a run begins with the tokenizer of another one', async () => {
  const bundle = await readBundle(await openFolder(path.join(home, 'whole', 'bundle')));
  const config = parseTrainingConfig({
    ...settings,
    tokenizer: { ...settings.tokenizer, steps: 2, warmup: 0, adversarial: { start: 1, width: 4, layers: 1 } },
  });
  const initial = { config: config.tokenizer.model, weights: bundle.tokenizer };
  try {
    await train(options('begun', { part: 'tokenizer', config, initial: { tokenizer: initial } }));
    await train(options('anew', { part: 'tokenizer', config }));
    const losses = await Promise.all(
      ['begun', 'anew'].map(async (out) =>
        (await logOf(out, 'tokenizer'))
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line)),
      ),
    );
    expect(losses[0][0].reconstruction).toBeLessThan(0.7 * losses[1][0].reconstruction);
    expect(losses[0][1].adversary).toBeDefined();
    const other = { ...initial, config: { ...initial.config, tokens: 16 } };
    await expect(train(options('other', { config, initial: { tokenizer: other } }))).rejects.toThrow(
      /tokenizer\.model\.tokens/,
    );
  } finally {
    await bundle.close();
  }
});

/** Pictures in two colours on nothing, three drawings of each; a class of one picture, a damaged one, and a huge one. */
async function paintedFolder(): Promise<string> {
  const folder = path.join(home, 'painted');
  const colours = { red: [220, 30, 30], blue: [20, 60, 200] };
  for (const [name, [r, g, b]] of Object.entries(colours)) {
    await mkdir(path.join(folder, name), { recursive: true });
    for (let i = 0; i < 36; i++) {
      const side = i === 0 ? 700 : 6 + (i % 9);
      const image = sharp({
        create: { width: side, height: side, channels: 4, background: { r, g, b, alpha: i % 2 ? 1 : 0.6 } },
      }).extend({ left: 4, right: 4, top: 5, bottom: 3, background: { r: 0, g: 0, b: 0, alpha: 0 } });
      await image.png().toFile(path.join(folder, name, `${Math.floor(i / 3)}${name}__${i % 3}.png`));
    }
  }
  await mkdir(path.join(folder, 'lonely'), { recursive: true });
  await copyFile(path.join(folder, 'red', '3red__0.png'), path.join(folder, 'lonely', 'only.png'));
  await writeFile(path.join(folder, 'red', '0red__damaged.png'), 'no picture');
  return folder;
}

test('a classifier of the classes, which a perceptual loss then uses', async () => {
  const config = parseTrainingConfig({
    ...settings,
    data: {
      ...{ fit: 'crop', zoom: 1, heldOut: 0.3, groupBy: '__', balance: 1, views: 'varied' },
      augment: { shift: 0.05, rotate: 5 },
    },
    classifier: { widths: [4, 8, 8], features: 16, steps: 50, batch: 16, learningRate: 3e-3, warmup: 5 },
    tokenizer: {
      ...settings.tokenizer,
      ...{ steps: 2, batch: 4, microBatch: 4, warmup: 0 },
      perceptual: { network: 'classifier', warmup: 0 },
    },
    tokenModel: { ...settings.tokenModel, steps: 2, warmup: 0 },
  });
  const classifier = path.join(home, 'judged', 'classifier.safetensors');
  const { createBackend } = options('');
  const data = await paintedFolder();
  const found = await trainClassifier({ config, data, out: classifier, createBackend });
  const counts = Object.values(found.byClass);
  expect(counts.reduce((sum, [, all]) => sum + all, 0)).toBe(found.heldOut);
  expect(found.accuracy).toBe(counts.reduce((sum, [right]) => sum + right, 0) / found.heldOut);
  expect(found.accuracy).toBeGreaterThan(0.8);
  expect(found.skipped.length).toBeLessThanOrEqual(1);

  const run = { config, data } as const;
  await expect(train(options('unjudged', run))).rejects.toThrow(/needs a classifier/);
  const made = await train(options('judged', { ...run, lossNetworks: { classifier } }));
  expect(made.skipped.every(({ file }) => file?.includes('damaged'))).toBe(true);
  expect(JSON.parse((await logOf('judged', 'tokenizer')).split('\n')[0]).extra.perceptual).toBeGreaterThan(0);

  // drawings of one thing are on one side, and the class of one picture is trained on
  const { list } = JSON.parse(await readFile(path.join(home, 'judged', 'held-out.json'), 'utf8'));
  const groups = new Set(list.map((name: string) => name.split('__')[0]));
  for (const group of groups) {
    const [label, stem] = `${group}`.split('/');
    const drawings = (await readdir(path.join(data, label))).filter((name) => name.startsWith(`${stem}__`));
    expect(list.filter((name: string) => name.startsWith(`${group}__`))).toHaveLength(drawings.length);
  }
  expect(list).not.toContain('lonely/only.png');
}, 240_000);
