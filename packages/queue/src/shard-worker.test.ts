import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { folderResults } from './folder-results';
import { jobDigest } from './job-spec';
import { resultKey, shardId } from './keys';
import { pause } from './pause';
import { parseQueueAddress } from './queue-address';
import { QueueControl } from './queue-control';
import { ShardClient, type ShardClientOptions } from './shard-client';
import { rangeName, shardRanges } from './shard-range';
import { type RunWorkerOptions, runWorker } from './shard-worker';
import { digestRows, digestTask, testSpec } from './test-job';
import { hasRedis, plainRedis, startRedis, type TestRedis } from './test-redis';

describe.runIf(hasRedis)('shards between a client and workers', () => {
  let redis: TestRedis;
  let folder: string;
  const stops: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    redis = await startRedis();
    folder = await mkdtemp(path.join(tmpdir(), 'detailflow-results-'));
  });
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
    const plain = plainRedis(redis.url);
    await plain.flushall();
    await plain.quit();
  });
  afterAll(async () => {
    await redis?.remove();
    await rm(folder, { recursive: true, force: true });
  });

  /** A promise, and what fulfils it. */
  function gate(): readonly [Promise<void>, () => void] {
    let open: () => void = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    return [opened, open];
  }
  const address = () => parseQueueAddress(redis.url);
  async function client(options: ShardClientOptions = {}): Promise<ShardClient> {
    const opened = await ShardClient.open(address(), options);
    stops.push(() => opened.close());
    return opened;
  }
  async function control(): Promise<QueueControl> {
    const opened = await QueueControl.open(address());
    stops.push(() => opened.close());
    return opened;
  }
  function worker(options: Partial<RunWorkerOptions> = {}) {
    const controller = new AbortController();
    const ended = runWorker(address(), {
      tasks: { digests: digestTask() },
      signal: controller.signal,
      ...options,
    });
    const stop = () => {
      controller.abort();
      return ended;
    };
    stops.push(stop);
    return { stop, ended };
  }
  async function collect(one: ShardClient, seed: number, total: number, size: number): Promise<Uint8Array> {
    const ranges = shardRanges(total, size);
    const job = await one.submit(testSpec(seed), ranges);
    const rows: Uint8Array[] = [];
    for (const range of ranges) {
      rows.push((await one.result(job, 'digests', range)).arrays.rows.data as Uint8Array);
      await one.release(job, [range]);
    }
    await one.finish(job);
    return Buffer.concat(rows);
  }
  /** The same job of several clients at once. */
  const collectWithWorker = (one: ShardClient, results?: string): Promise<Uint8Array> => {
    worker({ results });
    return collect(one, 23, 40, 8);
  };
  /** Keys of a job and of its shards. */
  const leftOf = async (job: string): Promise<string[]> => {
    const plain = plainRedis(redis.url);
    const keys = await plain.keys(`detailflow:*${job}*`);
    await plain.quit();
    return keys;
  };
  const expected = (seed: number, total: number) =>
    Buffer.from(digestRows(seed, { first: 0, count: total }).rows.data as Uint8Array);

  test('what is opened with a signal that is aborted leaves no connection behind', async () => {
    const plain = plainRedis(redis.url);
    stops.push(() => plain.quit());
    const connections = async () =>
      String(await plain.client('LIST'))
        .trim()
        .split('\n').length;
    const controller = new AbortController();
    const { signal } = controller;
    const openings = [
      ShardClient.open(address(), { signal }),
      QueueControl.open(address(), { signal }),
      runWorker(address(), { tasks: {}, signal }),
    ];
    controller.abort(new Error('not wanted'));
    for (const opening of openings) await expect(opening).rejects.toThrow('not wanted');
    await expect(ShardClient.open(address(), { signal })).rejects.toThrow('not wanted');
    await pause(300); // they may still be connecting
    await expect.poll(connections).toBe(1);
  });

  test('no job is begun that workers could not read, and no result is waited for that can never come', async () => {
    const one = await client();
    const refused = { code: 'invalid-argument' };
    const { title, hints, ...rest } = testSpec(1);
    for (const spec of [{ ...rest, title }, { ...rest, hints }, { title, hints }, undefined]) {
      await expect(one.submit(spec as never, shardRanges(2, 1))).rejects.toMatchObject(refused);
    }
    await expect(one.submit(testSpec(1), undefined as never)).rejects.toMatchObject(refused);
    expect(one.unfinished).toEqual([]);
    const job = jobDigest(testSpec(1));
    for (const range of [undefined, {}, { first: 0, count: 0 }]) {
      await expect(one.result(job, 'digests', range as never)).rejects.toMatchObject(refused);
    }
  });

  test('three workers give what one computes, through Redis, of which nothing is left', async () => {
    const workers = [worker(), worker(), worker()];
    expect(await collect(await client(), 7, 205, 8)).toEqual(expected(7, 205));
    const summaries = await Promise.all(workers.map(({ stop }) => stop()));
    expect(summaries.reduce((sum, { done }) => sum + done, 0)).toBe(26);
    const plain = plainRedis(redis.url);
    expect(
      (await plain.keys('detailflow:*')).filter((key) => /result|:job:|:[0-9a-f]{64}/.test(key)),
    ).toEqual([]);
    await plain.quit();
  });

  test('through a folder results stay, and the same job computes nothing again', async () => {
    const results = path.join(folder, 'stay');
    const first = worker({ results });
    expect(await collect(await client({ results }), 1, 40, 8)).toEqual(expected(1, 40));
    expect(await first.stop()).toMatchObject({ done: 5, known: 0 });
    const [place] = await readdir(results);
    expect((await readdir(path.join(results, place))).sort()).toEqual([
      'job.json',
      ...shardRanges(40, 8).map((range) => `shard-${rangeName(range)}.npz`),
    ]);
    const second = worker({ results });
    expect(await collect(await client({ results }), 1, 40, 8)).toEqual(expected(1, 40));
    expect((await second.stop()).done).toBe(0);
  });

  test('results that are damaged, or of another job, are no results', async () => {
    const results = path.join(folder, 'wrong');
    const store = folderResults(results);
    const [range, other] = shardRanges(16, 8);
    const [job, second] = [testSpec(1), testSpec(2)].map(jobDigest);
    await store.begin(job, testSpec(1));
    await store.begin(second, testSpec(2));
    const result = { arrays: digestRows(1, range), machine: 'a test', seconds: 1 };
    await store.write(job, range, result);
    expect((await store.read(job, range))?.arrays.rows.data).toEqual(result.arrays.rows.data);
    const file = (digest: string, one = range) =>
      path.join(results, digest.slice(0, 32), `shard-${rangeName(one)}.npz`);
    const bytes = await readFile(file(job));
    await writeFile(file(second), bytes);
    await expect(store.read(second, range)).rejects.toMatchObject({ code: 'config' });
    await writeFile(file(job, other), bytes);
    await expect(store.read(job, other)).rejects.toMatchObject({ code: 'config' });
    for (let at = 0; at < bytes.length; at += 41) {
      const flipped = Buffer.from(bytes);
      flipped[at] ^= 0x10;
      await writeFile(file(job), flipped);
      const found = await store.read(job, range).catch((error) => error.code);
      // A bit that says nothing, such as the version of a packer, may differ.
      if (typeof found !== 'string') expect(found.arrays.rows.data).toEqual(result.arrays.rows.data);
      else expect(['format', 'config', 'unsupported', 'limit']).toContain(found);
    }
    await writeFile(path.join(results, job.slice(0, 32), 'job.json'), '{}');
    await expect(store.begin(job, testSpec(1))).rejects.toMatchObject({ code: 'config' });
  });

  test('a shard that fails now and then is tried again; one that always fails ends the job, and is listed', async () => {
    let failures = 0;
    const notices: string[] = [];
    const flaky = digestTask(({ first }) => {
      if (first === 8 && failures++ < 2) throw new Error('the weather');
    });
    worker({ tasks: { digests: flaky }, onNotice: (message) => notices.push(message) });
    expect(await collect(await client(), 3, 24, 8)).toEqual(expected(3, 24));
    expect(failures).toBe(3);
    expect(notices).toEqual([expect.stringContaining('the weather')]);

    await stops[0]();
    let isBroken = true;
    worker({
      tasks: {
        digests: digestTask(({ first }) => {
          if (isBroken && first === 8) throw new Error('a stone');
        }),
      },
    });
    const one = await client();
    await expect(collect(one, 4, 24, 8)).rejects.toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/shard 00000008-8 .*a stone/),
    });
    const steering = await control();
    const job = jobDigest(testSpec(4));
    expect(await steering.failed()).toEqual([{ job, range: '00000008-8', reason: 'a stone', attempts: 3 }]);
    expect((await steering.status()).jobs).toMatchObject([{ job, asked: 3, done: 2, failed: 1 }]);
    isBroken = false;
    expect(await steering.retry(job.slice(0, 8))).toBe(1);
    expect(await collect(one, 4, 24, 8)).toEqual(expected(4, 24));
    expect(await steering.failed()).toEqual([]);
  });

  test('pause and resume', async () => {
    const one = await client();
    const steering = await control();
    await steering.pause();
    worker();
    const ranges = shardRanges(16, 8);
    const job = await one.submit(testSpec(5), ranges);
    await expect.poll(async () => (await steering.status()).workers.length).toBe(1);
    await pause(300);
    expect(await steering.status()).toMatchObject({ isPaused: true, waiting: 2, active: 0 });
    await steering.resume();
    expect((await one.result(job, 'digests', ranges[1])).arrays).toEqual(digestRows(5, ranges[1]));
  });

  test('a worker that is at a cancelled shard stops at once, and whoever waits is told', async () => {
    let [started, stopped] = [0, 0];
    worker({
      tasks: {
        digests: digestTask(async (_, signal) => {
          started++;
          await pause(600_000, signal).finally(() => stopped++);
        }),
      },
    });
    const one = await client();
    const ranges = shardRanges(32, 8);
    const job = await one.submit(testSpec(6), ranges);
    await expect.poll(() => started).toBe(1);
    const waiting = one.result(job, 'digests', ranges[0]);
    const told = expect(waiting).rejects.toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/cancelled/),
    });
    const steering = await control();
    expect(await steering.cancel(job.slice(0, 10))).toEqual({ job, removed: 3 });
    await told;
    await expect.poll(() => stopped).toBe(1);
    await expect.poll(async () => (await steering.status()).active).toBe(0);
    expect(started).toBe(1);
    await expect(steering.cancel('0123')).rejects.toMatchObject({ code: 'not-found' });
    await expect(steering.cancel('*')).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('a worker that is asked to end gives its shard back at once', async () => {
    let started = 0;
    const slow = worker({
      tasks: {
        digests: digestTask(async (_, signal) => {
          started++;
          await pause(600_000, signal);
        }),
      },
    });
    const one = await client();
    const ranges = shardRanges(8, 8);
    const job = await one.submit(testSpec(8), ranges);
    await expect.poll(() => started).toBe(1);
    expect(await slow.stop()).toEqual({ done: 0, known: 0, failed: 0, givenBack: 1 });
    const steering = await control();
    expect(await steering.status()).toMatchObject({ waiting: 1, active: 0, workers: [] });
    worker();
    expect((await one.result(job, 'digests', ranges[0])).arrays).toEqual(digestRows(8, ranges[0]));
  });

  test('a worker that cannot do a job leaves it to others; when all refuse, the client is told why', async () => {
    const refusing = {
      digests: {
        prepare: async () => {
          throw new Error('the model has another content');
        },
      },
    };
    const bad = worker({ tasks: refusing });
    const one = await client({ onNotice: () => {} });
    await expect(collect(one, 9, 16, 8)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/every worker .*the model has another content/),
    });
    const good = worker();
    expect(await collect(one, 9, 16, 8)).toEqual(expected(9, 16));
    expect((await bad.stop()).done).toBe(0);
    expect((await good.stop()).done).toBe(2);
  });

  test('a job that wants a folder is refused by a worker without one', async () => {
    worker();
    const one = await client({ results: path.join(folder, 'wanted') });
    await expect(collect(one, 10, 8, 8)).rejects.toMatchObject({
      message: expect.stringMatching(/--results DIR/),
    });
  });

  test('shards that the queue has lost are given out again', async () => {
    const notices: string[] = [];
    const one = await client({ onNotice: (message) => notices.push(message) });
    const ranges = shardRanges(16, 8);
    const job = await one.submit(testSpec(11), ranges);
    const plain = plainRedis(redis.url);
    expect(await plain.exists(`detailflow:shards:${shardId(job, rangeName(ranges[0]))}`)).toBe(1);
    await plain.del(`detailflow:shards:${shardId(job, rangeName(ranges[0]))}`, 'detailflow:shards:wait');
    worker();
    for (const range of ranges) {
      expect((await one.result(job, 'digests', range)).arrays).toEqual(digestRows(11, range));
    }
    expect(one.repeated).toBeGreaterThan(0);
    expect(notices.join()).toMatch(/given out again/);
    await plain.quit();
  });

  test.each(['redis', 'folder'] as const)(
    'a server that loses all it holds, with results in %s: the job begins again, and nothing is missing',
    async (place) => {
      const results = place === 'folder' ? path.join(folder, 'flushed') : undefined;
      const notices: string[] = [];
      const one = await client({ results, onNotice: (message) => notices.push(message) });
      const ranges = shardRanges(80, 8);
      const job = await one.submit(testSpec(21), ranges);
      const [flushed, flush] = gate();
      const tasks = { digests: digestTask(({ first }) => (first >= 32 ? flushed : undefined)) };
      worker({ tasks, results });
      worker({ tasks, results });
      const take = async (some: typeof ranges) => {
        const rows: Uint8Array[] = [];
        for (const range of some) {
          rows.push((await one.result(job, 'digests', range)).arrays.rows.data as Uint8Array);
          await one.release(job, [range]);
        }
        return rows;
      };
      const early = await take(ranges.slice(0, 2));
      const plain = plainRedis(redis.url);
      await expect.poll(() => plain.llen('detailflow:shards:active')).toBe(2);
      await plain.flushall();
      flush();
      expect(Buffer.concat([...early, ...(await take(ranges.slice(2)))])).toEqual(expected(21, 80));
      expect(one.repeated).toBeGreaterThan(0);
      expect(notices.join()).toMatch(/does not know job/);
      expect(one.unfinished).toEqual([job]);
      await one.finish(job);
      expect(one.unfinished).toEqual([]);
      await plain.quit();
    },
  );

  test.each(['redis', 'folder'] as const)(
    'two clients of one job, with results in %s: the one that is last misses nothing',
    async (place) => {
      const results = place === 'folder' ? path.join(folder, 'shared') : undefined;
      const [first, last] = [await client({ results }), await client({ results })];
      const ranges = shardRanges(40, 8);
      const job = await last.submit(testSpec(22), ranges);
      const workers = [worker({ results }), worker({ results })];
      const [begun] = ranges;
      const rows = [(await last.result(job, 'digests', begun)).arrays.rows.data as Uint8Array];
      expect(await collect(first, 22, 40, 8)).toEqual(expected(22, 40));
      for (const range of ranges.slice(1)) {
        rows.push((await last.result(job, 'digests', range)).arrays.rows.data as Uint8Array);
        await last.release(job, [range]);
      }
      expect(Buffer.concat(rows)).toEqual(expected(22, 40));
      await last.finish(job);
      for (const { stop } of workers) await stop();
      // A result that one of them has taken in may be computed for the other once more: then it stays, for its seven days.
      expect((await leftOf(job)).filter((key) => !key.startsWith('detailflow:result:'))).toEqual([]);
      const both = await Promise.all([first, last].map((one) => collectWithWorker(one, results)));
      expect(both).toEqual([expected(23, 40), expected(23, 40)]);
    },
  );

  test('of two clients with different places for results the earlier is told', async () => {
    const [here, there] = [await client(), await client({ results: path.join(folder, 'there') })];
    const ranges = shardRanges(16, 8);
    const job = await here.submit(testSpec(24), ranges);
    await there.submit(testSpec(24), ranges);
    worker({ results: path.join(folder, 'there') });
    await expect(here.result(job, 'digests', ranges[0])).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/with its results in a folder/),
    });
    expect((await there.result(job, 'digests', ranges[1])).arrays).toEqual(digestRows(24, ranges[1]));
    const stranger = await client();
    await there.finish(job);
    await expect(stranger.result(job, 'digests', ranges[0])).rejects.toMatchObject({ code: 'not-found' });
  });

  test('a folder that is not that of the workers is asked about', async () => {
    const notices: string[] = [];
    const onNotice = (message: string) => notices.push(message);
    const one = await client({ results: path.join(folder, 'mine'), onNotice });
    const [range] = shardRanges(8, 8);
    const job = await one.submit(testSpec(25), [range]);
    worker({ results: path.join(folder, 'theirs') });
    const waiting = one.result(job, 'digests', range);
    await expect.poll(() => notices.join(), { timeout: 100_000 }).toMatch(/10 times.*mine: is it the folder/);
    const steering = await control();
    await steering.cancel(job);
    await expect(waiting).rejects.toMatchObject({ code: 'runtime' });
  });

  test('a job that nobody wants any more is forgotten some time', async () => {
    const one = await client();
    const steering = await control();
    const plain = plainRedis(redis.url);
    const ranges = shardRanges(16, 8);
    const job = await one.submit(testSpec(26), ranges);
    const records = async () => (await leftOf(job)).filter((key) => !key.includes(':shards:'));
    const lives = async () => Promise.all((await records()).map((key) => plain.ttl(key)));
    const shorten = async (seconds: number) => {
      for (const key of await records()) await plain.expire(key, seconds);
    };
    const [day, week] = [24 * 3600, 7 * 24 * 3600];
    const between = (least: number, most: number) => (seconds: number) => seconds > least && seconds <= most;
    expect((await lives()).every(between(day, week))).toBe(true);
    await steering.cancel(job);
    expect(await lives()).toHaveLength(2);
    expect((await lives()).every(between(0, day))).toBe(true);
    // The same command begins it again, for as long as it waits.
    await one.submit(testSpec(26), ranges);
    expect((await lives()).every(between(day, week))).toBe(true);
    await shorten(1000);
    const waiting = one.result(job, 'digests', ranges[1]);
    await expect.poll(async () => (await lives()).every(between(day, week)), { timeout: 100_000 }).toBe(true);
    await shorten(1000);
    worker();
    expect((await waiting).arrays).toEqual(digestRows(26, ranges[1]));
    await one.result(job, 'digests', ranges[0]);
    await expect
      .poll(async () => (await steering.status()).jobs, { timeout: 100_000 })
      .toMatchObject([{ job, done: 2 }]);
    expect((await lives()).every(between(day, week))).toBe(true);

    await steering.cancel(job);
    await shorten(0);
    expect((await steering.status()).jobs).toEqual([]);
    expect(await plain.exists('detailflow:jobs')).toBe(0);
    await plain.quit();
  });

  test('what others put into the queue harms no worker', async () => {
    const { Queue } = await import('bullmq');
    const plain = plainRedis(redis.url);
    const queue = new Queue('shards', { connection: plain, prefix: 'detailflow' });
    const job = jobDigest(testSpec(12));
    const hostile = [
      null,
      'x',
      { job: '../../etc', range: '00000000-8' },
      { job, range: '../x' },
      { job, range: '00000000-0' },
    ];
    for (const data of hostile) await queue.add('digests', data);
    await plain.hset(`detailflow:job:${job}`, {
      spec: '{"kind":"digests"',
      state: 'running',
      results: 'redis',
    });
    await queue.add('digests', { job, range: '00000000-8' });
    worker();
    const other = await client();
    expect(await collect(other, 13, 16, 8)).toEqual(expected(13, 16));
    expect(await queue.getFailedCount()).toBe(hostile.length + 1);
    await queue.close();
    await plain.quit();
  });

  test('a server without memory is told of, and everything comes once there is some again', async () => {
    const plain = plainRedis(redis.url);
    const used = Number(/used_memory:(\d+)/.exec(await plain.info('memory'))?.[1]);
    await plain.config('SET', 'maxmemory', used + 4_000_000);
    const notices: string[] = [];
    const big = digestTask();
    worker({
      tasks: {
        digests: {
          async prepare(spec, options) {
            const task = await big.prepare(spec, options);
            const row = { data: new Uint8Array(1_000_000), shape: [1, 1_000_000] };
            return { ...task, run: async () => ({ arrays: { row } }) };
          },
        },
      },
    });
    const one = await client({ onNotice: (message) => notices.push(message) });
    const ranges = shardRanges(8, 1);
    const job = await one.submit(testSpec(15), ranges);
    const all = (async () => {
      await one.result(job, 'digests', ranges[7]);
      return 'all';
    })();
    await expect.poll(() => notices.join(), { timeout: 60_000 }).toMatch(/no memory left/);
    // Whoever merges makes room, for all of them one after the other.
    for (const range of ranges.slice(0, 7)) {
      await one.result(job, 'digests', range);
      await one.release(job, [range]);
    }
    expect(await all).toBe('all');
    await plain.config('SET', 'maxmemory', 0);
    await plain.quit();
  });

  test('a result in Redis that is damaged is told of', async () => {
    const one = await client();
    const [range] = shardRanges(8, 8);
    const job = await one.submit(testSpec(14), [range]);
    const plain = plainRedis(redis.url);
    await plain.set(resultKey(job, rangeName(range)), 'no archive');
    await expect(one.result(job, 'digests', range)).rejects.toMatchObject({ code: 'format' });
    await plain.quit();
  });
});
