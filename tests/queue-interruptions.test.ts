import { mkdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { hasRedis, plainRedis } from '../packages/queue/src/test-redis';
import { cli, cliJson, fashion, inRepository, testFolder } from './cli';
import { drawWhileKilling } from './queue-kills';
import { digests, startCli, testQueue } from './queue-processes';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];

describe.runIf(hasRedis)('a queue whose workers, commands and server end', () => {
  const { redis, running, worker } = testQueue();

  test('a worker that is asked to end gives back what it is at, and ends well', async () => {
    const what = ['generate', ...fashion, '--class', '0-9', '--count', '32', '--out', at('slow')];
    const first = worker();
    const command = startCli([...what, '--queue', redis.url]);
    running.push(command);
    const plain = plainRedis(redis.url);
    await expect.poll(() => plain.llen('detailflow:shards:active'), { timeout: 300_000 }).toBe(1);
    // The lock of a shard lasts five seconds, after which others may have it.
    const [id] = await plain.lrange('detailflow:shards:active', 0, 0);
    await expect.poll(() => plain.pttl(`detailflow:shards:${id}:lock`)).toBeGreaterThan(0);
    expect(await plain.pttl(`detailflow:shards:${id}:lock`)).toBeLessThanOrEqual(5000);
    const { code, stdout } = await first.stop('SIGTERM');
    // One that it has just finished is not given back.
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/0 failed, [01] given back/) });
    const status = () => cliJson('queue', 'status', '--queue', redis.url);
    // Workers of earlier tests are seen until their last sign is too old.
    await expect.poll(status, { timeout: 120_000 }).toMatchObject({ active: 0, workers: [] });
    const [{ job }] = (await status()).jobs;

    // Pause, cancel: whoever waits is told.
    await cliJson('queue', 'pause', '--queue', redis.url);
    expect(await cliJson('queue', 'status', '--queue', redis.url)).toMatchObject({ isPaused: true });
    await cliJson('queue', 'resume', '--queue', redis.url);
    expect(await cliJson('queue', 'cancel', job.slice(0, 12), '--queue', redis.url)).toMatchObject({ job });
    expect(await command.ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/was cancelled/) });
    await plain.quit();
  });

  test('the same command twice at once, and a server that loses all it holds meanwhile', async () => {
    const what = ['generate', ...fashion, '--class', '0-3', '--count', '16', '--tokens', '4'];
    await cliJson(...what, '--out', at('once'));
    const both = ['twice-1', 'twice-2'].map((out) =>
      startCli([...what, '--out', at(out), '--queue', redis.url]),
    );
    running.push(...both);
    worker();
    worker();
    const plain = plainRedis(redis.url);
    await expect.poll(() => plain.llen('detailflow:shards:active'), { timeout: 300_000 }).toBeGreaterThan(0);
    await plain.flushall();
    await plain.quit();
    for (const one of both) expect(await one.ended).toMatchObject({ code: 0 });
    const pictures = await digests(at('once'));
    expect(Object.keys(pictures)).toHaveLength(64);
    for (const out of ['twice-1', 'twice-2']) expect(await digests(at(out))).toEqual(pictures);
  });

  test.each([
    ['generate', ...fashion, '--class', '1', '--count', '40', '--tokens', '1', '--out', 'stopped'],
    [
      ...['eval', 'generation', ...fashion, '--data', 'shapes:60x32', '--all-images', ...network],
      ...['--count', '20', '--cfg', '1', '--out', 'stopped-eval'],
    ],
  ])('%s that is stopped says that workers go on, and the command that ends it', async (...args) => {
    const what = [...args.slice(0, -1), at(args[args.length - 1])];
    const plain = plainRedis(redis.url);
    await plain.flushall();
    const { code, stderr } = await cli([...what, '--queue', redis.url], {
      async interrupt(ready) {
        await ready;
        await expect
          .poll(() => plain.llen('detailflow:shards:wait'), { timeout: 300_000 })
          .toBeGreaterThan(0);
      },
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /: stopped\n(what was measured .*\n)?workers go on with what was given to the queue/,
    );
    const [, command] = /^detailflow (queue cancel .*)$/m.exec(stderr) ?? [];
    const cancelled = await cliJson(...command.split(' '));
    expect(cancelled.removed).toBeGreaterThan(0);
    expect(await cliJson('queue', 'status', '--queue', redis.url)).toMatchObject({
      ...{ waiting: 0, jobs: [{ job: cancelled.job, state: 'cancelled' }] },
    });
    await plain.quit();
  });

  test('workers, the server and the command itself are killed: no picture is lost or doubled', async () => {
    expect.hasAssertions();
    mkdirSync(at('kills'));
    await drawWhileKilling(at('kills'), { shards: 90, kills: 4 });
  });
});
