import { type ChildProcess, spawn } from 'node:child_process';
import { parseQueueAddress, QueueControl, ShardClient, shardRanges } from '@detailflow/queue';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hasRedis, startRedis, type TestRedis } from '../packages/queue/src/test-redis';
import { inRepository } from './cli';

/** A worker that is told how to do its shards, and says when it begins one. */
const program = `
import { parseQueueAddress, runWorker } from '@detailflow/queue';
const [url, manner] = process.argv.slice(1);
const manners = {
  dies: () => process.kill(process.pid, 'SIGKILL'),
  hangs: () => new Promise((resolve) => setTimeout(resolve, 1e9)),
  works: () => {},
};
await runWorker(parseQueueAddress(url), {
  signal: new AbortController().signal,
  tasks: {
    ones: {
      prepare: async () => ({
        machine: 'a test',
        close: async () => {},
        async run({ count }) {
          process.stdout.write('at it\\n');
          await manners[manner]();
          return { arrays: { ones: { data: new Uint8Array(count).fill(1), shape: [count] } } };
        },
      }),
    },
  },
});
`;

/** Tenths of a second. A shard comes to the next worker ten seconds after its worker's death at most; the start of one is on top. */
const LATEST = 150;

describe.runIf(hasRedis)('shards of workers that are killed', () => {
  let redis: TestRedis;
  const children: ChildProcess[] = [];
  // A clock that stands still with the machine, so that a busy one is no fault of the queue.
  let ticks = 0;
  const clock = setInterval(() => ticks++, 100);
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });
  afterAll(async () => {
    clearInterval(clock);
    await redis?.remove();
  });

  function worker(manner: 'dies' | 'hangs' | 'works') {
    const args = ['--input-type=module', '-e', program, redis.url, manner];
    const child = spawn(process.execPath, args, {
      cwd: inRepository('.'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    return {
      child,
      begun: new Promise<void>((resolve) => child.stdout.once('data', () => resolve())),
      ended: new Promise<void>((resolve) => child.once('close', () => resolve())),
    };
  }
  async function submit(name: string, size: number) {
    const client = await ShardClient.open(parseQueueAddress(redis.url));
    const spec = { kind: 'ones', identity: { name }, hints: {}, title: name };
    const ranges = shardRanges(size, size);
    const job = await client.submit(spec, ranges);
    return { client, job, result: () => client.result(job, 'ones', ranges[0]) };
  }

  test('another worker has the shard of one that is killed in fifteen seconds', async () => {
    const { client, job, result } = await submit('once', 3);
    const first = worker('hangs');
    await first.begun;
    const control = await QueueControl.open(parseQueueAddress(redis.url));
    const second = worker('works');
    await expect
      .poll(async () => (await control.status()).workers.length, { timeout: 100_000, interval: 100 })
      .toBe(2);
    first.child.kill('SIGKILL');
    await first.ended;
    const killed = ticks;
    await second.begun;
    const after = ticks - killed;
    console.log(`the shard came back ${after / 10} s after its worker was killed`);
    expect(after).toBeLessThan(LATEST);
    expect((await result()).arrays.ones.data).toEqual(Uint8Array.of(1, 1, 1));
    await client.finish(job);
    await client.close();
    await control.close();
  });

  test('a shard that takes five workers down with it is given up, and no sixth has it', async () => {
    const { client, job, result } = await submit('poison', 1);
    let isOver = false;
    const outcome = result().then(
      () => 'a result',
      (error) => error,
    );
    void outcome.then(() => {
      isOver = true;
    });
    const gaps: number[] = [];
    let deaths = 0;
    let last: number | undefined;
    while (!isOver && deaths < 7) {
      const one = worker('dies');
      void one.begun.then(() => {
        if (last !== undefined) gaps.push(ticks - last);
      });
      // The last one lives: it is not given the shard.
      await Promise.race([one.ended, outcome]);
      if (isOver) break;
      last = ticks;
      deaths++;
    }
    console.log(`seconds between deaths: ${gaps.map((gap) => gap / 10)}`);
    expect(await outcome).toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/failed: .*stalled more than allowable/),
    });
    expect(deaths).toBe(5);
    expect(gaps).toHaveLength(4);
    expect(Math.max(...gaps)).toBeLessThan(LATEST);
    const control = await QueueControl.open(parseQueueAddress(redis.url));
    expect(await control.failed()).toMatchObject([{ job, range: '00000000-1' }]);
    await control.close();
    await client.close();
  });
});
