import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { plainRedis, startRedis, type TestRedis } from '../packages/queue/src/test-redis';
import { inRepository, type Outcome } from './cli';

/** A command that runs beside a test. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  /** All it has printed so far. */
  said(): string;
  stop(kind: NodeJS.Signals): Promise<Outcome>;
}

export function startCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn(process.execPath, [inRepository('packages/detailflow/dist/cli.js'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  const ended = new Promise<Outcome>((resolve) =>
    child.on('close', (code) => resolve({ code, stdout, stderr })),
  );
  return {
    ...{ child, ended, said: () => stdout + stderr },
    stop(kind) {
      child.kill(kind);
      return ended;
    },
  };
}

export const startWorker = (url: string, ...more: string[]): Running =>
  startCli(['worker', '--queue', url, ...(more.includes('--threads') ? [] : ['--threads', '1']), ...more]);

/** SHA-256 of every file in a folder, by its path inside. */
export async function digests(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of (await readdir(folder, { recursive: true })).sort()) {
    const bytes = await readFile(path.join(folder, name)).catch(() => undefined); // a folder
    if (bytes) found[name] = createHash('sha256').update(bytes).digest('hex');
  }
  return found;
}

/** A server and workers for the tests of a `describe`, each of which begins with an empty queue; nothing goes on after a test. */
export function testQueue() {
  let redis: TestRedis | undefined;
  const running: Running[] = [];
  const url = () => {
    if (!redis) throw new Error('the server is not started yet');
    return redis.url;
  };
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    for (const one of running.splice(0)) if (one.child.exitCode === null) await one.stop('SIGKILL');
    // A worker that was killed is counted for fifteen seconds: the next test does not wait for it to be forgotten.
    const plain = plainRedis(url());
    await plain.flushall();
    await plain.quit();
  });
  afterAll(() => redis?.remove());
  return {
    running,
    redis: {
      get url() {
        return url();
      },
    },
    worker(...more: string[]): Running {
      const one = startWorker(url(), ...more);
      running.push(one);
      return one;
    },
  };
}
