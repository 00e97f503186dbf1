import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { cli, inRepository, testFolder } from '../../../../tests/cli';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];

const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const settings = (over: { batch?: number; steps?: number; validation?: number } = {}) => ({
  preset: 'tiny-32',
  replicas: 1,
  data: { fit: 'crop', heldOut: 0.2, flip: true },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: over.steps ?? 40, batch: over.batch ?? 8, microBatch: 8, warmup: 3, averageDecay: 0.9 },
  },
  tokenModel: {
    model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 },
    ...{ steps: 30, batch: 8, microBatch: 8, warmup: 3, averageDecay: 0.9 },
  },
  checkpoints: { every: 1000, keep: 2 },
  validation: { every: 15, images: over.validation ?? 8 },
});

/** A run of the command line that is interrupted. */
class Program {
  readonly child: ChildProcess;
  stderr = '';

  constructor(args: readonly string[]) {
    this.child = spawn(process.execPath, [inRepository('packages/detailflow/dist/cli.js'), ...args]);
    this.child.stderr?.on('data', (data) => (this.stderr += data));
  }

  /** Waits for something to come true. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.stderr}`);
      await delay(5);
    }
  }

  async end(): Promise<[number | null, NodeJS.Signals | null]> {
    const { exitCode, signalCode } = this.child;
    if (exitCode !== null || signalCode !== null) return [exitCode, signalCode];
    return (await once(this.child, 'close')) as [number | null, NodeJS.Signals | null];
  }
}

const train = (out: string, config: string, images: number, ...more: string[]) => [
  ...['train', 'all', '--config', at(config), '--data', `shapes:${images}x16`, '--out', at(out), ...more],
];
const log = (out: string, stage: string) => {
  const file = at(`${out}/${stage}/log.jsonl`);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};
const lines = (out: string, stage: string) => log(out, stage).split('\n').length - 1;

describe('a training run that is interrupted', () => {
  beforeAll(async () => {
    writeFileSync(at('small.json'), JSON.stringify(settings()));
    writeFileSync(at('large.json'), JSON.stringify(settings({ batch: 400, steps: 30 })));
    expect(await cli(train('whole', 'small.json', 60))).toMatchObject({ code: 0 });
  }, 120_000);

  test('says so at once, saves the step, ends with 130, and goes on by the command it names', async () => {
    let args = train('stopped', 'small.json', 60);
    for (const [stage, steps, target] of [
      ['tokenizer', 40, 4],
      ['tokenizer', 40, 20],
      ['ar', 30, 5],
    ] as const) {
      const run = new Program(args);
      await run.until(() => lines('stopped', stage) >= target);
      run.child.kill('SIGINT');
      await run.until(() => /^stopping after this step \.\.\. \(Ctrl-C again/m.test(run.stderr));
      expect(await run.end()).toEqual([130, null]);
      const said = new RegExp(
        `detailflow train: stopped\nsaved in .*stopped: .*${stage} at step (\\d+) of ${steps}.*\n` +
          'go on with: detailflow (train all --config .* --resume)\n$',
      ).exec(run.stderr);
      expect(said, run.stderr).not.toBe(null);
      expect(Number(said?.[1])).toBe(lines('stopped', stage));
      args = said?.[2].split(' ') as string[];
    }
    expect(await cli(args)).toMatchObject({ code: 0 });
    for (const stage of ['tokenizer', 'ar']) expect(log('stopped', stage)).toBe(log('whole', stage));
  }, 300_000);

  test('a second time ends at once, by the signal, and leaves files that the next goes on from', async () => {
    const run = new Program(train('twice', 'large.json', 60));
    await run.until(() => lines('twice', 'tokenizer') >= 1);
    run.child.kill('SIGINT');
    run.child.kill('SIGINT'); // package runners hand on what the terminal has sent already: this is the same one
    await run.until(() => run.stderr.includes('stopping'));
    await delay(400);
    if (run.child.exitCode === null) run.child.kill('SIGINT'); // in the middle of a step of 50 micro-batches
    const [code, signal] = await run.end();
    expect(signal ?? code).toBe(signal === null ? 130 : 'SIGINT');
    expect(signal === null || !run.stderr.includes('saved in')).toBe(true);
    const next = new Program(train('twice', 'large.json', 60, '--resume'));
    await next.until(() => /step \d+\/30/.test(next.stderr));
    next.child.kill('SIGTERM');
    expect(await next.end()).toEqual([143, null]);
    expect(next.stderr).toMatch(/saved in .*twice: tokenizer at step \d+ of 30/);
    expect(readdirSync(at('twice/tokenizer/checkpoints')).join()).toMatch(
      /^step-\d+\.safetensors(,step-\d+\.safetensors)?$/, // two where the first run came to the end of its step
    );
    expect(existsSync(at('twice/lock.json'))).toBe(false);
  }, 300_000);

  test('while it makes codes keeps whole shards and says how far they go', async () => {
    const source = ['--data', 'shapes:12000x16', '--out', at('codes'), '--tokenizer', at('whole/bundle')];
    const run = new Program(['train', 'codes', '--config', at('small.json'), ...source]);
    await run.until(() => existsSync(at('codes/codes/shard-00000.bin')));
    run.child.kill('SIGINT');
    expect(await run.end()).toEqual([130, null]);
    expect(run.stderr).toMatch(
      /stopping after these images .*\n.*stopped\nsaved in .*: codes of 4096 of \d+ images\n/,
    );
  });
});

test('an evaluation ends with 130 and says that the same command goes on', async () => {
  const args = ['eval', 'images', '--images', 'shapes:3000x32', '--data', 'shapes:40x32', ...network];
  const run = new Program([...args, '--out', at('eval')]);
  const kept = () =>
    existsSync(at('eval/kept')) &&
    readdirSync(at('eval/kept'), { recursive: true }).join().includes('images-');
  await run.until(kept);
  run.child.kill('SIGINT');
  expect(await run.end()).toEqual([130, null]);
  expect(run.stderr).toMatch(
    /^detailflow eval: stopped\nwhat was measured is kept in .*eval: the same command/,
  );
});

test('a fault while stopping is a fault: exit code 1, and said', async () => {
  const run = new Program(train('broken', 'small.json', 60));
  await run.until(() => lines('broken', 'tokenizer') >= 2);
  const lock = at('broken/lock.json');
  writeFileSync(lock, readFileSync(lock, 'utf8').replace(/"token":"\w/, '"token":"x'));
  run.child.kill('SIGINT');
  expect(await run.end()).toEqual([1, null]);
  expect(run.stderr).toMatch(/another run has taken this folder/);
});
