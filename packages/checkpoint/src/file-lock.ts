import { randomBytes } from 'node:crypto';
import { type FileHandle, link, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { ioError } from './node-files';
import { type ProcessIdentity, stateOf, thisProcess } from './process-identity';

/** Heartbeat, patience and messages of a lock. */
export interface LockOptions {
  /** Milliseconds between two heartbeats. */
  readonly interval?: number;
  /** Milliseconds without a heartbeat after which a process that is out of sight counts as gone; many intervals. */
  readonly patience?: number;
  /** Told before the heartbeat of another process is waited for. */
  readonly onNotice?: (message: string) => void;
  /** Waits for whoever has the lock, instead of an error; told once that it waits. */
  readonly onBusy?: (holder: LockHolder) => void;
  /** The error's message when somebody else has the lock. */
  readonly busyMessage?: (holder: LockHolder) => string;
  /** The message of {@link FileLock.lost}. */
  readonly lostMessage?: string;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}

/** Who has a lock; 'unknown' where its file is damaged. */
export interface LockHolder {
  readonly host: string;
  readonly process: number | string;
}

/** What the file holds. */
interface LockFile extends ProcessIdentity {
  /** Drawn by the lock that wrote it. */
  readonly token: string;
}

/**
 * A lock between processes and machines: a file that says which process has it and that changes every two seconds (its
 * heartbeat). Who finds such a file decides:
 *
 * 1. Same boot of the machine (boot id) and same space of process numbers (container): the process table decides. The
 *    holder is alive when a process of that number runs and started at the noted time, even if it is stopped (SIGSTOP) and
 *    has no heartbeat; otherwise it is gone, though its number may be in use again.
 * 2. Otherwise (another machine, another container, the machine was started anew, a system without such a table): the
 *    heartbeat decides. It is watched for up to ten seconds; alive if it changes, else gone. Only change counts, never a
 *    time of day, so clocks may jump or differ.
 *
 * The lock of a holder that is gone is taken over. One that was out of sight, stopped, and goes on later finds at its next
 * heartbeat or write that the lock is not its own any more, and ends before it writes.
 */
export class FileLock {
  readonly #file: string;
  readonly #token: string;
  readonly #handle: FileHandle;
  readonly #beatAt: number;
  readonly #lostMessage: string;
  readonly #timer: NodeJS.Timeout;
  readonly #lost = new AbortController();
  #beats = 0;
  #released = false;

  private constructor(
    file: string,
    options: { token: string; handle: FileHandle; beatAt: number; interval: number; lostMessage: string },
  ) {
    this.#file = file;
    this.#token = options.token;
    this.#handle = options.handle;
    this.#beatAt = options.beatAt;
    this.#lostMessage = options.lostMessage;
    this.#timer = setInterval(() => this.#beat(), options.interval);
    this.#timer.unref();
  }

  /**
   * @param file its folder exists
   * @throws DetailFlowError `io` when another process has the lock and there is no `onBusy`, or it cannot be written
   */
  static async take(file: string, options: LockOptions = {}): Promise<FileLock> {
    checkOptions('FileLock.take', options, {
      ...{ interval: true, patience: true, onNotice: true, onBusy: true, signal: true },
      ...{ busyMessage: true, lostMessage: true },
    });
    const { interval = 2000, patience = 10_000, onNotice, onBusy, signal } = options;
    const { lostMessage = 'another process has taken this lock while this one was stopped' } = options;
    const {
      busyMessage = ({ host, process: id }) => `another process has it (host ${host}, process ${id})`,
    } = options;
    const token = randomBytes(16).toString('hex');
    const self = await thisProcess();
    const text = `${JSON.stringify({ ...self, token } satisfies LockFile).slice(0, -1)},"beat":"${beatText(0)}"}\n`;
    const beatAt = Buffer.byteLength(text) - BEAT_WIDTH - 3;
    const [folder, name] = [path.dirname(file), path.basename(file)];
    const aside = path.join(folder, `.${name}.${token}`);
    try {
      for (let attempt = 0, told = false; attempt < MOST_ATTEMPTS; attempt++) {
        signal?.throwIfAborted();
        const handle = await create(file, aside, text);
        if (handle) {
          const lock = new FileLock(file, { token, handle, beatAt, interval, lostMessage });
          if (await lock.#isMine()) return lock;
          await lock.release(); // another took it over in the same moment
          continue;
        }
        const found = await readLock(file);
        if (found === undefined) continue;
        if (await isAlive(file, found, self, { patience, interval, onNotice, signal })) {
          const { host = 'unknown', process: id = 'unknown' } = found.lock ?? {};
          if (!onBusy) throw new DetailFlowError('io', busyMessage({ host, process: id }), { file: folder });
          if (!told) onBusy({ host, process: id });
          told = true;
          attempt = -1;
          await delay(Math.min(interval / 4, 200), undefined, { signal });
          continue;
        }
        await remove(file, found.text, path.join(folder, `.${name}.gone-${token}`));
      }
    } catch (cause) {
      signal?.throwIfAborted();
      if (DetailFlowError.isInstance(cause)) throw cause;
      throw ioError('cannot be written', file, cause);
    }
    throw new DetailFlowError('io', 'other processes begin here at the same time; choose another folder', {
      file: path.dirname(file),
    });
  }

  /** Aborted when another process has taken the lock, which happens only to one that was stopped for a while. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** @throws DetailFlowError `io` when another process has taken the lock meanwhile */
  async require(): Promise<void> {
    for (let look = 0; !this.#isSettled() && !(await this.#isMine()); look++) {
      if (this.#isSettled()) break;
      if (look === LOOKS) this.#lost.abort(this.#taken());
      await delay(20); // somebody who took it for the lock of another puts it back at once
    }
    this.#lost.signal.throwIfAborted();
  }

  async #isMine(): Promise<boolean> {
    return (await readLock(this.#file))?.lock?.token === this.#token;
  }

  /** Gives the lock back, unless another process has it. */
  async release(): Promise<void> {
    this.#released = true;
    clearInterval(this.#timer);
    const isMine = await this.#isMine().catch(() => false);
    await this.#handle.close();
    if (isMine) await rm(this.#file, { force: true });
  }

  #isSettled(): boolean {
    return this.#released || this.#lost.signal.aborted;
  }

  #beat(): void {
    const text = beatText(++this.#beats);
    // Into the file that was opened, which is nobody else's even when another one lies in its place.
    this.#handle
      .write(text, this.#beatAt)
      .then(() => this.#handle.datasync())
      .catch(() => {}); // a full disk or a closed file: what is written next says so
    this.require().catch(() => {}); // `lost` tells
  }

  #taken(): DetailFlowError {
    return new DetailFlowError('io', this.#lostMessage, { file: this.#file });
  }
}

const MOST_ATTEMPTS = 20;
const LOOKS = 5;
const BEAT_WIDTH = 12;
const beatText = (beats: number) => `${beats}`.padStart(BEAT_WIDTH, '0');

/** Makes the file, whole from its first moment, and opens it; undefined when there is one already. */
async function create(file: string, aside: string, text: string): Promise<FileHandle | undefined> {
  const handle = await open(aside, 'wx+');
  try {
    await handle.writeFile(text);
    await link(aside, file);
    return handle;
  } catch (cause) {
    await handle.close();
    const { code, syscall } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') return undefined;
    if (syscall !== 'link') throw cause;
    return createInPlace(file, text);
  } finally {
    await rm(aside, { force: true });
  }
}

/** Where there are no links: the file is empty for a moment, which the others sit out. */
async function createInPlace(file: string, text: string): Promise<FileHandle | undefined> {
  const handle = await open(file, 'wx+').catch((cause) => {
    if (cause.code === 'EEXIST') return undefined;
    throw cause;
  });
  await handle?.writeFile(text);
  return handle;
}

interface Found {
  readonly text: string;
  /** Undefined when it is damaged. */
  readonly lock?: LockFile;
}

/** The lock file as it lies there; undefined when there is none. */
async function readLock(file: string): Promise<Found | undefined> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    if (cause.code === 'ENOENT') return undefined;
    throw ioError('cannot be read', file, cause);
  });
  if (text === undefined) return undefined;
  try {
    const lock = JSON.parse(text) as LockFile;
    return Number.isSafeInteger(lock?.process) && lock.process > 0 ? { text, lock } : { text };
  } catch {
    return { text };
  }
}

async function isAlive(
  file: string,
  found: Found,
  self: ProcessIdentity,
  {
    patience,
    interval,
    onNotice,
    signal,
  }: Required<Pick<LockOptions, 'patience' | 'interval'>> & LockOptions,
): Promise<boolean> {
  const state = found.lock ? await stateOf(found.lock, self) : 'unknown';
  if (state !== 'unknown') return state === 'runs';
  const whose = found.lock ? `host ${found.lock.host}, process ${found.lock.process}` : 'it is damaged';
  onNotice?.(
    `${file} is left of a process that cannot be seen from here (${whose}): waiting for a sign of life`,
  );
  for (const until = performance.now() + patience; performance.now() < until; ) {
    await delay(interval / 4);
    signal?.throwIfAborted();
    const now = await readLock(file);
    if (now === undefined) return false;
    if (now.text !== found.text) return true;
  }
  return false;
}

/** Removes a lock file that holds `text`; one that somebody else has put there meanwhile stays. */
async function remove(file: string, text: string, aside: string): Promise<void> {
  try {
    await rename(file, aside);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw cause;
  }
  if ((await readFile(aside, 'utf8')) !== text) await link(aside, file).catch(() => {}); // its owner finds out
  await rm(aside, { force: true });
}
