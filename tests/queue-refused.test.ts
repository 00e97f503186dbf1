import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasRedis, startRedis, type TestRedis } from '../packages/queue/src/test-redis';
import { cli, cliFailure, fashion } from './cli';
import { startCli } from './queue-processes';

describe.runIf(hasRedis)('a queue that cannot be used', () => {
  const secret = 'p@ss/w:rd%1';
  const written = encodeURIComponent(secret);
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis(['--requirepass', secret]);
  });
  afterAll(() => redis?.remove());
  const hidden = (text: string) => {
    for (const one of [secret, written]) expect(text).not.toContain(one);
    return text;
  };

  test('wants a password, which is shown nowhere', async () => {
    const place = `127.0.0.1:${redis.port}`;
    const status = (url: string) => ['queue', 'status', '--queue', url];
    expect(hidden(await cliFailure(1, ...status(`redis://${place}`)))).toMatch(
      new RegExp(`redis://${place}: wants another user or password`),
    );
    const wrong = hidden(await cliFailure(1, ...status(`redis://:${written}x@${place}`)));
    expect(wrong).toMatch(/wants another user or password/);
    const right = await cli([...status(`redis://:${written}@${place}`), '--json']);
    expect(right).toMatchObject({ code: 0, stderr: '' });
    hidden(right.stdout);
    const byEnvironment = startCli([...status(`redis://${place}`), '--json'], {
      DETAILFLOW_QUEUE_PASSWORD: secret,
    });
    expect(await byEnvironment.ended).toMatchObject({ code: 0, stderr: '' });
    const worker = startCli(['worker', '--queue', `redis://:${written}@${place}`]);
    await expect
      .poll(
        async () => {
          const { stdout } = await cli([...status(`redis://:${written}@${place}`), '--json']);
          return JSON.parse(stdout).workers.length;
        },
        { timeout: 100_000 },
      )
      .toBe(1);
    // A server that is gone and back, with the worker waiting.
    await redis.stop('SIGKILL');
    await expect.poll(() => worker.said(), { timeout: 100_000 }).toMatch(/connection is lost/);
    await redis.start();
    await expect.poll(() => worker.said(), { timeout: 100_000 }).toMatch(/connected again/);
    const { code, stdout, stderr } = await worker.stop('SIGINT');
    expect(code).toBe(0);
    hidden(stdout + stderr);
  });

  test.each([
    [`redis://:${written}@`, 2],
    [`http://me:${written}@host`, 2],
    [`redis://:${written}@host/db`, 2],
    [`redis://:${written}@host?x=1`, 2],
    [`redis://:%zz${written}@host`, 2],
    [`redis://:${written}@127.0.0.1:99999`, 2],
    [`${written}`, 2],
    [`redis://:${written}@127.0.0.1:1`, 1],
    [`redis://:${written}@no-such-host.invalid`, 1],
  ] as const)('%s is refused, and not repeated', async (url, code) => {
    for (const command of [['worker'], ['queue', 'status']]) {
      const said = hidden(await cliFailure(code, ...command, '--queue', url));
      expect(said).toMatch(
        code === 2 ? /--queue: the address of the queue/ : /redis:\/\/[\w.-]+:\d+: cannot be reached/,
      );
    }
    hidden(await cliFailure(2, 'worker', '--queue', url, '--queue', url));
    hidden(await cliFailure(2, 'queue', url));
  });
});

describe('the command line of the queue', () => {
  const queue = ['--queue', 'redis://127.0.0.1:1'];
  test.each([
    [['worker'], /--queue is missing/],
    [['worker', ...queue, 'x'], /"x" is not expected/],
    [['worker', ...queue, '--device', 'tpu'], /--device "tpu"/],
    [['worker', ...queue, '--threads', '0'], /--threads 0/],
    [['queue', ...queue], /status, pause, resume, cancel, failed/],
    [['queue', 'stop', ...queue], /status, pause, resume, cancel, failed/],
    [['queue', 'status'], /--queue is missing/],
    [['queue', 'status', 'x', ...queue], /"x" is not expected/],
    [['queue', 'cancel', ...queue], /say which job/],
    [['queue', 'cancel', '../x', ...queue], /names no job/],
    [['queue', 'pause', '--retry', ...queue], /--retry is for queue failed/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--results', 'y'], /--results is for/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--progressive', ...queue], /--progressive/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--noise', 'n.npy', ...queue], /--noise/],
    [
      ['generate', ...fashion, '--class', '1', '--out', 'x', '--queue', 'nonsense'],
      /does not begin with redis/,
    ],
    [
      ['eval', 'images', '--images', 'x', '--data', 'y', '--out', 'z', ...queue],
      /--queue is for eval generation/,
    ],
    [['train', 'ar', '--config', 'tiny-32', '--data', 'shapes:9', '--out', 'x', ...queue], /for train codes/],
  ] as const)('%j is refused', async (args, message) => {
    expect(await cliFailure(2, ...args)).toMatch(message);
  });
});
