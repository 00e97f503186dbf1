import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Tensor } from '@detailflow/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Snapshot } from './checkpoint-file';
import { RunFolder } from './run-folder';
import { runStage, type SavedCheckpoint, type StageOptions } from './run-stage';

/** Adds up its batches. */
class Sum {
  step = 0;
  total = 0;
  graphs = 0;

  async train(batch: number) {
    if (batch === 1) this.graphs++;
    this.total += batch;
    return { step: this.step++, loss: this.total };
  }

  async snapshot(): Promise<Snapshot> {
    return { step: this.step, tensors: { total: new Tensor('float32', Float32Array.of(this.total), [1]) } };
  }

  async restore({ step, tensors }: Snapshot): Promise<void> {
    [this.step, this.total] = [step, tensors.total.data[0] as number];
  }
}

let home: string;
beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'run-stage-'));
});
afterEach(() => rm(home, { recursive: true }));

interface StageSettings {
  readonly onStep?: StageOptions<number>['onStep'];
  /** Aborts in the middle of this validation. */
  readonly abortIn?: number;
  readonly steps?: number;
  readonly patience?: number;
  readonly checkpoints?: StageOptions<number>['checkpoints'];
  /** What the validation after so many steps finds, if not how far it has come. */
  readonly found?: Readonly<Record<number, number>>;
}

/** Trains with a validation after every second step. */
async function stage(out: string, settings: StageSettings = {}): Promise<SavedCheckpoint | undefined> {
  const { abortIn, steps = 6, patience, found, checkpoints = { every: 100, keep: 2 } } = settings;
  const folder = await RunFolder.open(path.join(home, out), { settings: {}, resume: true });
  const controller = new AbortController();
  let saved: SavedCheckpoint | undefined;
  try {
    const trainer = new Sum();
    await runStage<number>({
      ...{ folder, stage: 'tokenizer', trainer, steps, batchSize: 1, signal: controller.signal },
      checkpoints,
      onStep: settings.onStep,
      batch: async (step) => step + 1,
      ...{ patience, score: ({ found }) => found as number | undefined },
      validation: {
        every: 2,
        run: async (step, signal) => {
          if (step === abortIn) controller.abort(new Error('enough'));
          signal?.throwIfAborted();
          return { found: found?.[step] ?? trainer.total };
        },
      },
      onSaved: (one) => {
        saved = one;
      },
    });
  } finally {
    await folder.close();
  }
  return saved;
}

const log = (out: string) => readFile(path.join(home, out, 'tokenizer', 'log.jsonl'), 'utf8');
const lines = async (out: string): Promise<Record<string, unknown>[]> =>
  (await log(out))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('a step that compiled a graph says nothing of the pace', async () => {
  const rates: boolean[] = [];
  await stage('pace', { onStep: ({ samplesPerSecond }) => rates.push(samplesPerSecond !== undefined) });
  expect(rates).toEqual([false, true, true, true, true, true]);
});

test('a stage that is stopped in the middle of a validation makes it up, and ends the same', async () => {
  expect(await stage('whole')).toEqual({ stage: 'tokenizer', step: 6, steps: 6 });
  const whole = await log('whole');
  expect(whole.match(/found/g)).toHaveLength(3);
  for (const abortIn of [2, 4, 4, 6]) {
    await expect(stage('stopped', { abortIn })).rejects.toThrow('enough');
    expect((await log('stopped')).trim().split('\n')).toHaveLength(abortIn);
  }
  expect(await stage('stopped')).toEqual({ stage: 'tokenizer', step: 6, steps: 6 });
  expect(await log('stopped')).toBe(whole);
});

describe('patience', () => {
  /** Best after 6 steps; after 8 and 10 no better. */
  const found = { 2: 1, 4: 3, 6: 5, 8: 5, 10: 4, 12: 9, 14: 9, 16: 8, 18: 7 };
  const steps = 20;

  test.each([
    [0, 20],
    [1, 8],
    [2, 10],
    [3, 18],
    [4, 20],
  ])('of %i validations: the stage ends after step %i', async (patience, last) => {
    const out = `patience-${patience}`;
    expect(await stage(out, { steps, patience, found })).toMatchObject({ step: last });
    const all = await lines(out);
    expect(all).toHaveLength(last);
    expect(all.filter((line) => line.endedEarly === true).map(({ step }) => step)).toEqual(
      last < steps ? [last - 1] : [],
    );
    // It goes on from there only if it is to be more patient.
    const before = await log(out);
    expect(await stage(out, { steps, patience, found })).toMatchObject({ step: last });
    expect(await log(out)).toBe(before);
  });

  test('that grows lets a stage go on that had ended', async () => {
    await stage('grows', { steps, patience: 1, found });
    expect(await stage('grows', { steps, patience: 2, found })).toMatchObject({ step: 10 });
    expect(await stage('grows', { steps, patience: 0, found })).toMatchObject({ step: 20 });
    const plain = (all: Record<string, unknown>[]) => all.map(({ endedEarly: _, ...line }) => line);
    await stage('never', { steps, found });
    expect(plain(await lines('grows'))).toEqual(plain(await lines('never')));
  });

  test('counts validations that were stopped and made up, once', async () => {
    await stage('unbroken', { steps, patience: 2, found });
    for (const abortIn of [4, 8, 8, 10, 10]) {
      await expect(stage('broken', { steps, patience: 2, found, abortIn })).rejects.toThrow('enough');
    }
    expect(await stage('broken', { steps, patience: 2, found })).toMatchObject({ step: 10 });
    expect(await log('broken')).toBe(await log('unbroken'));
  });
});

test.each([
  [{ every: 2, keep: 2 }, [18, 20]],
  [{ every: 2, keep: 2, milestones: 5 }, [5, 10, 15, 16, 18, 20]],
  [{ every: 100, keep: 1, milestones: 8 }, [8, 16, 20]],
  [{ every: 3, keep: 2, milestones: 0 }, [18, 20]],
])('checkpoints %j: those of steps %j stay', async (checkpoints, steps) => {
  const kept = async () => {
    const names = await readdir(path.join(home, 'milestones', 'tokenizer', 'checkpoints'));
    return names.map((name) => Number(/\d+/.exec(name)?.[0])).sort((a, b) => a - b);
  };
  await stage('milestones', { steps: 20, checkpoints });
  expect(await kept()).toEqual(steps);
});
