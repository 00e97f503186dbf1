import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { startRedis } from '../packages/queue/src/test-redis';
import { cli, goldenBoth } from './cli';
import { digests, type Running, startCli, startWorker } from './queue-processes';

/** Pictures of a shard of `generate`. */
const PICTURES = 16;
const WORKERS = 2;

/**
 * Draws pictures by workers that are killed at random, while the server of the queue is killed and started again, and the command
 * that waits for the pictures as well: every picture is there once, and is the one that a single process draws.
 * @param options.kills of workers, spread over the run
 */
export async function drawWhileKilling(
  folder: string,
  options: { readonly shards: number; readonly kills: number },
): Promise<void> {
  const { shards, kills } = options;
  const [classes, results] = [2, path.join(folder, 'results')];
  const what = [
    ...['generate', ...goldenBoth('S'), '--class', `0-${classes - 1}`],
    ...['--count', `${(shards * PICTURES) / classes}`, '--tokens', '4'],
  ];
  const alone = cli([...what, '--threads', '1', '--out', path.join(folder, 'alone')]);
  expect((await alone).code).toBe(0);

  const redis = await startRedis();
  const running: Running[] = [];
  const others: Running[] = [];
  const start = () => running.push(startWorker(redis.url, '--results', results));
  const parent = () => {
    const args = ['--queue', redis.url, '--results', results, '--out', path.join(folder, 'far')];
    const one = startCli([...what, ...args]);
    others.push(one);
    return one;
  };
  const done = async () => {
    const files = await readdir(results, { recursive: true }).catch(() => []);
    return files.filter((name) => /^shard-.*\.npz$/.test(path.basename(name))).length;
  };
  try {
    let waiting = parent();
    for (let i = 0; i < WORKERS; i++) start();
    let [killed, atWork, late] = [0, 0, 0];
    const isOver = { server: false, parent: false };
    for (;;) {
      if (waiting.child.exitCode !== null) break;
      const count = await done();
      if (!isOver.server && count > shards / 3) {
        isOver.server = true;
        await redis.stop('SIGKILL');
        await pause(500);
        await redis.start();
      }
      if (!isOver.parent && count > shards / 2) {
        isOver.parent = true;
        await waiting.stop('SIGKILL');
        waiting = parent();
      }
      // Kills go by what is done, so that they are spread over the run on machines of any speed.
      if (killed < kills && count > ((killed + 0.5) / kills) * shards * 0.9) {
        const [victim] = running.splice(Math.floor(Math.random() * running.length), 1);
        if (victim.child.exitCode === null) atWork++;
        else {
          // It was just starting while there was no server, which it says and ends; one that has been connected never does.
          expect((await victim.ended).stderr).toMatch(/cannot be reached/);
          late++;
        }
        await victim.stop('SIGKILL');
        killed++;
        start();
      }
      await pause(20);
    }
    const outcome = await waiting.ended;
    expect(outcome.stderr.replace(/^[\d.]+\/[\d.]+ \w+.*\n/gm, '')).not.toMatch(/failed|differ/);
    expect(outcome.code).toBe(0);
    expect(atWork).toBeGreaterThan(kills / 2);
    expect({ killed, ended: atWork + late, ...isOver }).toEqual({
      killed: kills,
      ended: kills,
      server: true,
      parent: true,
    });
    const [expected, found] = [
      await digests(path.join(folder, 'alone')),
      await digests(path.join(folder, 'far')),
    ];
    expect(Object.keys(expected)).toHaveLength(shards * PICTURES);
    // Killed while it writes a picture, the command leaves a hidden file, and no picture under its name.
    const pictures = Object.entries(found).filter(([name]) => !name.startsWith('.'));
    expect(Object.fromEntries(pictures)).toEqual(expected);
    // Of every shard one result, and nothing half-written beside them.
    const [job, ...rest] = await readdir(results);
    expect(rest).toEqual([]);
    const files = (await readdir(path.join(results, job))).sort();
    expect(files).toHaveLength(shards + 1);
    expect(files.filter((name) => !/^(job\.json|shard-\d{8}-16\.npz)$/.test(name))).toEqual([]);
    const status = JSON.parse((await cli(['queue', 'status', '--queue', redis.url, '--json'])).stdout);
    expect(status).toMatchObject({ waiting: 0, jobs: [] });
  } finally {
    for (const one of [...running, ...others]) if (one.child.exitCode === null) await one.stop('SIGKILL');
    await redis.remove();
  }
}
