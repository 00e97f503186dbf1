import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseQueueAddress } from './queue-address';
import { runWorker } from './shard-worker';
import { digestTask } from './test-job';
import { hasRedis, startRedis, type TestRedis } from './test-redis';

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

describe.runIf(hasRedis)('a worker that is asked to end', () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.remove());

  test('leaves no timer behind, which would keep its process for seconds', async () => {
    const before = timers();
    const controller = new AbortController();
    const ended = runWorker(parseQueueAddress(redis.url), {
      tasks: { digests: digestTask() },
      signal: controller.signal,
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(timers()).toBeGreaterThan(before); // its signs of life
    controller.abort();
    await ended;
    expect(timers()).toBe(before);
  });
});
