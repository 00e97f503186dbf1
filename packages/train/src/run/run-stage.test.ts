import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Tensor } from '@detailflow/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Snapshot } from './checkpoint-file';
import { RunFolder } from './run-folder';
import { runStage, type SavedCheckpoint } from './run-stage';

/** Adds up its batches. */
class Sum {
  step = 0;
  total = 0;

  async train(batch: number) {
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

/** Trains 6 steps with a validation after 2, 4 and 6; `abortIn` aborts in the middle of that one. */
async function stage(out: string, abortIn?: number): Promise<SavedCheckpoint | undefined> {
  const folder = await RunFolder.open(path.join(home, out), { settings: {}, resume: true });
  const controller = new AbortController();
  let saved: SavedCheckpoint | undefined;
  try {
    const trainer = new Sum();
    await runStage<number>({
      ...{ folder, stage: 'tokenizer', trainer, steps: 6, batchSize: 1, signal: controller.signal },
      checkpoints: { every: 100, keep: 2 },
      batch: async (step) => step + 1,
      validation: {
        every: 2,
        run: async (step, signal) => {
          if (step === abortIn) controller.abort(new Error('enough'));
          signal?.throwIfAborted();
          return { found: trainer.total };
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

test('a stage that is stopped in the middle of a validation makes it up, and ends the same', async () => {
  expect(await stage('whole')).toEqual({ stage: 'tokenizer', step: 6, steps: 6 });
  const whole = await log('whole');
  expect(whole.match(/found/g)).toHaveLength(3);
  for (const abortIn of [2, 4, 4, 6]) {
    await expect(stage('stopped', abortIn)).rejects.toThrow('enough');
    expect((await log('stopped')).trim().split('\n')).toHaveLength(abortIn);
  }
  expect(await stage('stopped')).toEqual({ stage: 'tokenizer', step: 6, steps: 6 });
  expect(await log('stopped')).toBe(whole);
});
