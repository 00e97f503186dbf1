import { type ChildProcess, spawn } from 'node:child_process';
import { parseQueueAddress, QueueControl, ShardClient, shardRanges } from '@detailflow/queue';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hasRedis, plainRedis, startRedis, type TestRedis } from '../packages/queue/src/test-redis';
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

/** Milliseconds that the README promises: until the lock ends, and two looks at what has none. */
const PROMISED = 10_000;

describe.runIf(hasRedis)('shards of workers that are killed', () => {
  let redis: TestRedis;
  const children: ChildProcess[] = [];
  let plain: ReturnType<typeof plainRedis>;
  beforeAll(async () => {
    redis = await startRedis();
    plain = plainRedis(redis.url);
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });
  afterAll(async () => {
    plain?.disconnect();
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

  /** The longest that a key of its own lasts, of many looks: Redis is told the setting, and counts it down. */
  async function lasting(key: string): Promise<number> {
    let most = -2;
    await expect
      .poll(async () => {
        most = Math.max(most, await plain.pttl(key));
        return most;
      })
      .toBeGreaterThan(0);
    for (let look = 0; look < 100; look++) most = Math.max(most, await plain.pttl(key));
    return most;
  }

  test('another worker has the shard of one that is killed, as soon as the settings say', async () => {
    const { client, job, result } = await submit('once', 3);
    const first = worker('hangs');
    await first.begun;
    const [id] = await plain.lrange('detailflow:shards:active', 0, 0);
    const lock = await lasting(`detailflow:shards:${id}:lock`);
    const look = await lasting('detailflow:shards:stalled-check');
    expect(lock + 2 * look).toBeLessThanOrEqual(PROMISED);
    const control = await QueueControl.open(parseQueueAddress(redis.url));
    const second = worker('works');
    await expect
      .poll(async () => (await control.status()).workers.length, { timeout: 100_000, interval: 100 })
      .toBe(2);
    first.child.kill('SIGKILL');
    await first.ended;
    await second.begun;
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
    let deaths = 0;
    while (!isOver && deaths < 7) {
      const one = worker('dies');
      // The last one lives: it is not given the shard.
      await Promise.race([one.ended, outcome]);
      if (isOver) break;
      deaths++;
    }
    expect(await outcome).toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/failed: .*stalled more than allowable/),
    });
    expect(deaths).toBe(5);
    const control = await QueueControl.open(parseQueueAddress(redis.url));
    expect(await control.failed()).toMatchObject([{ job, range: '00000000-1' }]);
    await control.close();
    await client.close();
  });
});
