import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { RunFolder } from '@detailflow/train/node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const isLinux = process.platform === 'linux';

let home: string;
let folder: string;
let file: string;
const started: Holder[] = [];
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'run-lock-'));
  folder = path.join(home, 'run');
  file = path.join(folder, 'lock.json');
  mkdirSync(folder);
  writeFileSync(
    path.join(home, 'run.mjs'),
    `import { RunFolder } from ${JSON.stringify(new URL('../../dist/node.js', import.meta.url).href)};
     if (process.argv[2] === 'wrong-clock') Date.now = () => 0;
     const lock = { interval: 40, patience: 1500, onNotice: () => console.log('waits') };
     try {
       const folder = await RunFolder.open(${JSON.stringify(folder)}, { settings: {}, resume: true, lock });
       process.on('SIGTERM', () => folder.close().then(() => process.exit(0)));
       folder.lost.addEventListener('abort', async () => {
         console.log(await folder.place('late').catch((error) => error.message.includes('another run has taken')));
         await folder.close();
         process.exit(7);
       });
       setInterval(() => {}, 1000);
       console.log('has it');
     } catch (error) {
       console.log(error.message);
       process.exit(1);
     }`,
  );
});
afterEach(async () => {
  for (const holder of started.splice(0)) await holder.kill();
  rmSync(home, { recursive: true });
});

/** A process that opens the folder and keeps it. */
class Holder {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command = process.execPath, args = [path.join(home, 'run.mjs')]) {
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.child.stdout!)[Symbol.asyncIterator]();
    started.push(this);
  }

  /** The next line that it prints. */
  async line(): Promise<string | undefined> {
    return (await this.#lines.next()).value;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }
}

const lockFile = () => JSON.parse(readFileSync(file, 'utf8'));

/** Changes fields of the lock file of a run, whose heartbeat goes on. */
function rewrite(change: Record<string, unknown>): void {
  const before = readFileSync(file, 'utf8');
  const after = `${JSON.stringify({ ...lockFile(), ...change })}\n`;
  expect(after).toHaveLength(before.length); // so that the heartbeat still meets its place
  writeFileSync(file, after, { flag: 'r+' });
}

const otherBoot = () => ({ boot: lockFile().boot.replace(/[0-9a-f]/g, '0') });
const killed = async (): Promise<void> => {
  const holder = new Holder();
  expect(await holder.line()).toBe('has it');
  await holder.kill();
  expect(existsSync(file)).toBe(true);
};
const here = () =>
  RunFolder.open(folder, { settings: {}, resume: true, lock: { interval: 40, patience: 500 } });
const refused = /another run is at work in this folder/;

describe('a run that was killed', () => {
  test('is followed at once by the next', async () => {
    await killed();
    const next = new Holder();
    expect(await next.line()).toBe('has it');
    next.child.kill('SIGTERM');
    expect(await once(next.child, 'exit')).toEqual([0, null]);
    expect(existsSync(file)).toBe(false);
  });

  test.runIf(isLinux)('is known by its start when another process has its number', async () => {
    await killed();
    writeFileSync(file, JSON.stringify({ ...lockFile(), process: process.pid }));
    await (await here()).close();
  });

  test('on another host, or before the machine was started anew, is followed after a while', async () => {
    await killed();
    for (const change of [
      { host: 'elsewhere', boot: 'another', space: 'pid:[1]', process: process.pid },
      { host: hostname(), boot: 'another' },
      { host: 'elsewhere', space: 'pid:[1]' },
    ]) {
      writeFileSync(file, JSON.stringify({ ...lockFile(), ...change }));
      const notices: string[] = [];
      const lock = { interval: 40, patience: 400, onNotice: (text: string) => notices.push(text) };
      await (await RunFolder.open(folder, { settings: {}, resume: true, lock })).close();
      expect(notices.join()).toMatch(isLinux ? /waiting for a sign of life/ : /./);
      await killed();
    }
  });

  test.each(['', '{', 'null', '[]', '{"process":1,"host":"x"}', '{"process":-1}', '{"process":"1"}'])(
    'and left the lock file %j is followed after a while',
    async (text) => {
      writeFileSync(file, text);
      await (await here()).close();
    },
  );

  test('is followed by one of many that begin at the same moment', async () => {
    for (let round = 0; round < 2; round++) {
      await killed();
      const runs = Array.from({ length: 4 }, () => new Holder());
      const lines = await Promise.all(runs.map((run) => run.line()));
      expect(lines.filter((line) => line === 'has it')).toHaveLength(1);
      for (const line of lines)
        if (line !== 'has it') expect(line).toMatch(/another run is at work|same time/);
      for (const run of runs) await run.kill();
    }
  }, 120_000);
});

describe('a live run', () => {
  test('keeps every other one out, whatever the clocks say', async () => {
    const holder = new Holder(process.execPath, [path.join(home, 'run.mjs'), 'wrong-clock']);
    expect(await holder.line()).toBe('has it');
    for (const time of [0, Date.now() / 1000, 4e9]) {
      utimesSync(file, time, time);
      await expect(here()).rejects.toThrow(refused);
      expect(await new Holder().line()).toMatch(refused);
    }
    await holder.kill();
    utimesSync(file, 4e9, 4e9);
    await (await here()).close();
  });

  test('of this process, too', async () => {
    const run = await here();
    await expect(here()).rejects.toThrow(refused);
    await run.close();
    await (await here()).close();
  });

  test.runIf(isLinux)('that is stopped keeps the folder, without a heartbeat', async () => {
    const holder = new Holder();
    expect(await holder.line()).toBe('has it');
    holder.child.kill('SIGSTOP');
    await expect(here()).rejects.toThrow(refused);
    holder.child.kill('SIGCONT');
    holder.child.kill('SIGTERM');
    expect(await once(holder.child, 'exit')).toEqual([0, null]);
  });

  test.runIf(isLinux)('that cannot be seen from here is known by its heartbeat', async () => {
    const holder = new Holder();
    expect(await holder.line()).toBe('has it');
    rewrite(otherBoot());
    await expect(here()).rejects.toThrow(refused);
    expect(holder.child.exitCode).toBe(null);
  });

  test.runIf(isLinux)(
    'that cannot be seen, was stopped, and was followed, ends before it writes',
    async () => {
      const holder = new Holder();
      expect(await holder.line()).toBe('has it');
      holder.child.kill('SIGSTOP');
      rewrite(otherBoot());
      const next = await here();
      holder.child.kill('SIGCONT');
      expect(await holder.line()).toBe('true'); // nothing could be written any more
      expect(await once(holder.child, 'exit')).toEqual([7, null]);
      await next.place('mine');
      await expect(here()).rejects.toThrow(refused);
      await next.close();
    },
  );
});

/** A container: process numbers and a host name of its own. */
const container = (host: string, id = 1) => {
  const burn = Array.from({ length: id - 1 }, () => 'true & wait').join('; ') || 'true';
  const script = `hostname ${host}; ${burn}; exec "$0" "$1"`;
  const args = ['--pid', '--fork', '--mount-proc', '--uts', '--kill-child', 'sh', '-c', script];
  return new Holder('unshare', [...args, process.execPath, path.join(home, 'run.mjs')]);
};
const hasContainers =
  isLinux && spawnSync('unshare', ['--pid', '--fork', '--mount-proc', '--uts', 'true']).status === 0;
if (!hasContainers) console.warn('SKIPPED: runs in containers; unshare is not allowed here');

describe.skipIf(!hasContainers)('in containers', () => {
  test('a run that was killed goes on under the same process number, or on another host', async () => {
    for (const host of ['one', 'one', 'two']) {
      const run = container(host);
      const first = await run.line();
      expect(first === 'waits' ? await run.line() : first).toBe('has it');
      expect(lockFile()).toMatchObject({ process: 1, host });
      await run.kill();
      expect(existsSync(file)).toBe(true);
    }
  });

  test('two live ones never share a folder, nor one with a process outside', async () => {
    const run = container('one');
    expect(await run.line()).toBe('has it');
    const other = container('two');
    expect([await other.line(), await other.line()]).toEqual(['waits', expect.stringMatching(refused)]);
    await expect(here()).rejects.toThrow(refused);
  });
});
