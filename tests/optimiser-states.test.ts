import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { newestCheckpoint, openStateDicts, type StateDicts } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { readFloat32, Tensor, type Weights } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { optimiserFeeds, optimiserGraph } from '@detailflow/train';
import { type EarlierTraining, readSnapshot, readTraining } from '@detailflow/train/node';
import { beforeAll, describe, expect, test } from 'vitest';
import { cli, cliFailure, cliJson, inRepository, testFolder } from './cli';
import { numbers } from './numbers-by-formula';

// Optimisers and discriminators travel between official checkpoints and runs: what torch wrote goes on here as it does in torch, what a
// run wrote goes on in torch, and a run that goes on from its own official output is the run that never stopped.

const { TORCH_PYTHON: python = '/usr/bin/python3' } = process.env;
const hasTorch = spawnSync(python, ['-c', 'import torch'], { stdio: 'ignore' }).status === 0;
if (!hasTorch)
  console.warn(
    `OPTIMISER STATES ARE NOT LOADED BY TORCH: ${python} has no torch; TORCH_PYTHON may name a Python that has`,
  );

const at = testFolder();
type Values = Record<string, number[]>;

async function opened<T>(folder: string, file: string, use: (dicts: StateDicts) => Promise<T>): Promise<T> {
  const dicts = await openStateDicts(await openFolder(folder), file);
  try {
    return await use(dicts);
  } finally {
    await dicts.close();
  }
}

/** Steps of our optimiser over weights and moments, with gradients by formula. */
async function steppedHere(
  weights: Weights,
  { moments, settings }: EarlierTraining['optimiser'],
  from: { readonly made: number; readonly numbers: readonly number[] },
): Promise<Values> {
  const specs = [...moments.keys()].map((name) => ({ name, shape: weights.get(name)?.shape ?? [] }));
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  const tensors: Record<string, Tensor> = {};
  for (const { name, shape } of specs) {
    const put = async (kind: string, values: Float32Array) => {
      tensors[`${kind}.${name}`] = new Tensor('float32', values, shape);
    };
    const found = moments.get(name)!;
    await put('param', await readFloat32(weights.get(name)!));
    await put('moment1', await readFloat32(found.mean));
    await put('moment2', await readFloat32(found.square));
    await put('grad', new Float32Array(sizeOf(shape)));
  }
  const backend = createReferenceBackend();
  const state = await backend.createState(tensors);
  const options = {
    ...{ betas: settings.betas, epsilon: settings.epsilon, weightDecay: settings.weightDecay },
    decays: (name: string, { length }: readonly number[]) => length >= 2 && !name.endsWith('.bias'),
  };
  const graph = await backend.compile(optimiserGraph(specs, options), new Map());
  for (const [i, number] of from.numbers.entries()) {
    for (const { name, shape } of specs) {
      const gradient = new Tensor('float32', numbers(`${name} ${number}`, sizeOf(shape)), shape);
      await state.write(`grad.${name}`, gradient);
    }
    const step = { step: from.made + i, learningRate: settings.learningRate, accumulated: 1 };
    await graph.run(optimiserFeeds(step, options), { state });
  }
  const result: Values = {};
  for (const { name } of specs)
    result[name] = [...((await state.read(`param.${name}`)).data as Float32Array)];
  return result;
}

function expectClose(found: Values, expected: Values, names = Object.keys(expected)): void {
  for (const name of names) {
    expect(found[name], name).toHaveLength(expected[name].length);
    for (const [i, value] of expected[name].entries())
      expect(Math.abs(found[name][i] - value), `${name} ${i}: ${found[name][i]}, ${value}`).toBeLessThan(
        2e-6,
      );
  }
}

describe('a training that torch has saved', () => {
  const folder = inRepository('tests/fixtures/optimiser-states');
  const expected = JSON.parse(readFileSync(path.join(folder, 'expected.json'), 'utf8'));

  test.each(['adam', 'adamw', 'adamw-decaying-first'])('%s goes on as it does there', async (kind) => {
    await opened(folder, `${kind}.pt`, async (dicts) => {
      const { weights, training } = await readTraining(dicts, 'tokenizer');
      const { step, optimiser, discriminator } = training;
      expect(step).toBe(3);
      expect(optimiser.settings).toEqual({
        ...{ learningRate: 0.01, betas: [0.9, 0.95], epsilon: 1e-8 },
        weightDecay: kind === 'adam' ? 0 : 0.05,
      });
      const names = Object.keys(expected[kind].model).filter((name) => !name.startsWith('repa_model.'));
      expect([...optimiser.moments.keys()].sort()).toEqual([...names].sort());
      const own = await steppedHere(weights, optimiser, { made: 3, numbers: [3, 4] });
      expectClose(own, expected[kind].model, names);
      const judged = discriminator!;
      const moved = await steppedHere(judged.weights, judged.optimiser!, { made: 3, numbers: [3, 4] });
      expectClose(moved, expected[kind].discriminator);
      const ring = await readFloat32(training.recentCodes!);
      expect([...ring.subarray(0, 6)]).toEqual([0, 1, 2, 3, 4, 0]);
    });
  });

  test('an optimiser of other parameters is refused', async () => {
    for (const half of ['tokenizer', 'ar'] as const) {
      const official = inRepository(`tests/fixtures/golden/A/${half}`);
      const tree = await openFolder(official);
      const newest = (await newestCheckpoint(tree))!;
      await expect(opened(official, newest, (dicts) => readTraining(dicts, half))).rejects.toThrow(
        /optimizer: is not that of "model": it has \d+ parameters in 1 group, the state dict \d+/,
      );
    }
  });
});

const tower = { width: 16, heads: 2, layers: 2, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const settings = {
  ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32, correction: true },
      ...{ encoder: tower, decoder: tower },
    },
    ...{ steps: 4, batch: 4, microBatch: 4, warmup: 0, initialFactor: 1, finalFactor: 1, weightDecay: 0.05 },
    averageDecay: 0.9,
    ...{ degradation: 0.3, correction: 0.5, revival: { every: 2, until: 1, patience: 1000 } },
    adversarial: { start: 1, width: 2, layers: 1, norm: 'batch', lecam: 0.1, weight: 0.1 },
  },
  tokenModel: {
    model: { dim: 16, layers: 2, heads: 2 },
    ...{ steps: 4, batch: 4, microBatch: 4, warmup: 0, initialFactor: 1, finalFactor: 1 },
    ...{ weightDecay: 0.05, averageDecay: 0.9, dropout: 0.1 },
  },
  data: { views: 'center' },
  validation: { every: 99, images: 4 },
};
const run = (part: string, out: string, ...more: string[]) => [
  ...['train', part, '--config', at('settings.json'), '--data', 'shapes:60x16', '--out', at(out), ...more],
];
/** What AR models are trained with. */
const tokenizer = () => ['--tokenizer', at('whole/bundle')];
const half = (out: string, stage: string, steps: number) =>
  at(`${out}/official/${stage}/checkpoints/${String(steps).padStart(7, '0')}.pt`);
const lastOf = (out: string, stage: string) =>
  readSnapshot(
    at(
      `${out}/${stage}/checkpoints/${readdirSync(at(`${out}/${stage}/checkpoints`))
        .sort()
        .at(-1)}`,
    ),
  );

describe('a run', () => {
  beforeAll(async () => {
    writeFileSync(at('settings.json'), JSON.stringify(settings));
    await cliJson(...run('tokenizer', 'whole'));
    await cliJson(...run('tokenizer', 'half', '--set', 'tokenizer.steps=2'));
    await cliJson(...run('all', 'ar-whole', ...tokenizer()));
  });

  test('that goes on from its official output is the run that never stopped, to the bit', async () => {
    const start = ['--init', half('half', 'tokenizer', 2), '--with-optimiser'];
    const { code, stderr } = await cli(run('tokenizer', 'on', ...start));
    expect({ code, stderr }).toMatchObject({
      code: 0,
      stderr: expect.not.stringMatching(/discriminator|moments|settings/),
    });
    const [whole, on] = [await lastOf('whole', 'tokenizer'), await lastOf('on', 'tokenizer')];
    expect(on.step).toBe(4);
    expect(Object.keys(on.tensors).sort()).toEqual(Object.keys(whole.tensors).sort());
    for (const [name, { data }] of Object.entries(whole.tensors)) {
      expect(on.tensors[name].data, name).toEqual(data);
    }
  });

  test('of an AR model, with its running means', async () => {
    await cliJson(...run('all', 'ar-half', ...tokenizer(), '--set', 'tokenModel.steps=2'));
    // Of a folder the newest file is taken.
    const start = ['--init', at('ar-half/official/ar'), '--with-optimiser'];
    await cliJson(...run('all', 'ar-on', ...tokenizer(), ...start));
    const [whole, on] = [await lastOf('ar-whole', 'ar'), await lastOf('ar-on', 'ar')];
    expect(on).toEqual(whole);
    expect(Object.keys(on.tensors).some((name) => name.startsWith('ema.'))).toBe(true);
  });

  test('cannot go on without steps that are left, from a bundle, or by halves', async () => {
    const start = (source: string) => ['--init', source, '--with-optimiser'];
    const file = half('half', 'tokenizer', 2);
    const done = await cli(run('tokenizer', 'x1', ...start(file), '--set', 'tokenizer.steps=2'));
    expect(done).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /tokenizer\.steps: the training to go on from has made 2 steps, and the run has 2/,
      ),
    });
    expect(await cliFailure(2, ...run('tokenizer', 'x2', ...start(at('half/bundle'))))).toMatch(
      /--with-optimiser: .*has no checkpoints/,
    );
    expect(await cliFailure(2, ...run('tokenizer', 'x3', ...start(file), '--lenient'))).toMatch(
      /leave out --lenient/,
    );
    expect(await cliFailure(2, ...run('tokenizer', 'x4', '--with-optimiser'))).toMatch(/give that, too/);
    const golden = inRepository('tests/fixtures/golden/A/tokenizer');
    expect(await cliFailure(1, ...run('tokenizer', 'x5', ...start(golden)))).toMatch(
      /is not that of "model"/,
    );
    const weights = at('half/bundle/tokenizer.safetensors');
    expect(await cliFailure(1, ...run('tokenizer', 'x6', ...start(weights)))).toMatch(/of a \.pt file/);
  });

  test('says what it goes on with otherwise', async () => {
    const file = half('half', 'tokenizer', 2);
    const changed = ['--set', 'tokenizer.betas=[0.8,0.9]', '--set', 'tokenizer.adversarial.width=3'];
    const { code, stderr } = await cli(run('tokenizer', 'y', '--init', file, '--with-optimiser', ...changed));
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /the optimiser goes on with other settings: betas was 0\.9,0\.95 and is 0\.8,0\.9 now/,
    );
    expect(stderr).toMatch(/the discriminator is another one .*so it is drawn anew/);
  });

  test.skipIf(!hasTorch)('goes on in torch', async () => {
    for (const stage of ['tokenizer', 'ar'] as const) {
      const file = half(stage === 'ar' ? 'ar-whole' : 'whole', stage, 4);
      mkdirSync(at('torch'), { recursive: true });
      const keys = JSON.parse(readFileSync(inRepository('tests/fixtures/golden/official_keys.json'), 'utf8'));
      const official = Object.keys(keys[stage === 'ar' ? 'gpt_l_128_tokens' : 'tokenizer_128_tokens']);
      await opened(path.dirname(file), path.basename(file), async (dicts) => {
        const { weights, training } = await readTraining(dicts, stage);
        const names = [...weights.keys()].filter((name) => name !== 'quantize.codebook_used');
        // Ours are in the order in which the official model makes its own.
        expect(names).toEqual(official.filter((name) => names.includes(name)));
        writeFileSync(at('names.json'), JSON.stringify(names));
        const script = inRepository('tools/reference/optimiser-states.py');
        const args = ['-B', script, 'go-on', file, at('names.json')];
        const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8' });
        expect({ status, stderr }).toMatchObject({ status: 0 });
        const found = JSON.parse(stdout);
        const one = { made: training.step, numbers: [0] };
        expectClose(found.model, await steppedHere(weights, training.optimiser, one));
        if (stage === 'ar') {
          expect(found.scheduler).toMatchObject({ last_epoch: 4 });
          return;
        }
        const { weights: judging, optimiser } = training.discriminator!;
        const made = { made: training.step - 1, numbers: [0] }; // since its start
        expectClose(found.discriminator, await steppedHere(judging, optimiser!, made));
      });
    }
  });
});

test('files that are damaged are refused by what is wrong', async () => {
  const folder = inRepository('tests/fixtures/optimiser-states');
  mkdirSync(at('damaged'));
  const original = readFileSync(path.join(folder, 'adamw.pt'));
  const cut = original.subarray(0, original.length - 2000);
  writeFileSync(at('damaged/cut.pt'), cut);
  copyFileSync(path.join(folder, 'adamw.pt'), at('damaged/right.pt'));
  await opened(at('damaged'), 'right.pt', (dicts) => readTraining(dicts, 'tokenizer'));
  await expect(
    opened(at('damaged'), 'cut.pt', (dicts) => readTraining(dicts, 'tokenizer')),
  ).rejects.toMatchObject({
    code: 'format',
  });
});
