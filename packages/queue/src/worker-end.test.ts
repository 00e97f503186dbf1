import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { parseQueueAddress } from './queue-address';
import { runWorker } from './shard-worker';
import { digestTask } from './test-job';
import { hasRedis, startRedis, type TestRedis } from './test-redis';

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

const soon = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe.runIf(hasRedis)(
  'a worker that is asked to end leaves no timer behind, which would keep its process',
  () => {
    let redis: TestRedis;
    beforeEach(async () => {
      redis = await startRedis();
    });
    afterEach(() => redis?.remove());

    /** Waits until there are no more timers than before; for ever where one of them goes on. */
    async function ended(before: number): Promise<void> {
      expect.hasAssertions();
      while (timers() > before) await soon(100);
      expect(timers()).toBeLessThanOrEqual(before);
    }
    function start() {
      const controller = new AbortController();
      const summary = runWorker(parseQueueAddress(redis.url), {
        tasks: { digests: digestTask() },
        signal: controller.signal,
      });
      return {
        end() {
          controller.abort();
          return summary;
        },
      };
    }

    test('while it waits for work', async () => {
      const [started, cleared] = (['setTimeout', 'clearTimeout'] as const).map((name) =>
        vi.spyOn(globalThis, name),
      );
      onTestFinished(() => {
        vi.restoreAllMocks();
      });
      const worker = start();
      await soon(500);
      await worker.end();
      // The seconds that it would wait for the server, and those that it waited for its first answer.
      const long = started.mock.calls.flatMap(([, time], i) =>
        time === 10_000 ? [started.mock.results[i].value] : [],
      );
      expect(long.length).toBeGreaterThan(1);
      const ended = new Set<unknown>(cleared.mock.calls.map(([timer]) => timer));
      expect(long.filter((timer) => !ended.has(timer))).toEqual([]);
    });

    test('where the server says nothing more', async () => {
      const before = timers();
      const worker = start();
      await soon(500);
      redis.freeze();
      await worker.end();
      await ended(before);
    });

    test.each([0, 1000])('%i ms after the server has gone', async (milliseconds) => {
      const before = timers();
      const worker = start();
      await soon(500);
      await redis.stop('SIGKILL');
      await soon(milliseconds);
      await worker.end();
      await ended(before);
    });
  },
);
