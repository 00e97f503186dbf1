import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Redis } from 'ioredis';

/** Debian's, or the one on the path. */
const program = ['/usr/bin', '/usr/local/bin', ...(process.env.PATH ?? '').split(path.delimiter)]
  .map((folder) => path.join(folder, 'redis-server'))
  .find((file) => existsSync(file));

/** Whether tests of the queue can run here; says loudly where they cannot. */
export const hasRedis = program !== undefined;
if (!hasRedis) {
  process.stderr.write(
    '\n*** SKIPPED: tests of the queue, since there is no redis-server here (Debian, Ubuntu: apt-get install redis-server) ***\n\n',
  );
}

/** A Redis server of a test's own: on a free port, with its data in a folder that goes with it. */
export interface TestRedis {
  readonly url: string;
  readonly port: number;
  /** Stops it; `SIGKILL` gives it no time to write anything. */
  stop(kind?: NodeJS.Signals): Promise<void>;
  /** Starts it again, on the same port with the same data. */
  start(): Promise<void>;
  /** Keeps its connections open, but answers nothing any more. */
  freeze(): void;
  remove(): Promise<void>;
}

/** @param args of redis-server, such as ['--requirepass', 'secret'] */
export async function startRedis(args: readonly string[] = []): Promise<TestRedis> {
  const folder = await mkdtemp(path.join(tmpdir(), 'detailflow-redis-'));
  const port = await freePort();
  let child: ChildProcess | undefined;
  const start = async () => {
    const started = spawn(
      program as string,
      [
        ...['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder, '--daemonize', 'no'],
        ...['--appendonly', 'yes', '--save', '', ...args],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    child = started;
    let said = '';
    await new Promise<void>((resolve, reject) => {
      const listen = (data: Buffer) => {
        said += data;
        if (/Ready to accept connections/.test(said)) resolve();
      };
      started.stdout.on('data', listen);
      started.stderr.on('data', listen);
      started.once('exit', () => reject(new Error(`redis-server ended: ${said.slice(-500)}`)));
    });
  };
  const stop = async (kind: NodeJS.Signals = 'SIGTERM') => {
    const running = child;
    child = undefined;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(kind);
    await ended;
  };
  await start();
  return {
    ...{ port, url: `redis://127.0.0.1:${port}`, start, stop },
    freeze() {
      child?.kill('SIGSTOP');
    },
    async remove() {
      await stop('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A plain connection, for what tests look at themselves. */
export function plainRedis(url: string): Redis {
  return new Redis(url, { maxRetriesPerRequest: null });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
