import { constants, type FileHandle, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { FileLock, ioError, syncFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { NodeHubSettings } from './environment';
import { fetchRest, type Sink, type Wanted } from './fetch-rest';
import { advisingRoom, roomAdvice } from './full-disk';
import { type Hasher, hasherOf } from './hashing';
import { nodeHasher } from './node-hashing';
import { waitForPython } from './python-lock';
import { retrying } from './retry';

/** Where it goes. */
export interface Places {
  /** The whole file, named by its etag. */
  readonly blob: string;
  /** The file of the lock that Python takes. */
  readonly lock: string;
  /** The variable of the environment that says where both lie. */
  readonly variable: string;
}

const PART = 2 ** 20;
/** Left free on the disk. */
const SPARE = 2 ** 20;

/**
 * Fetches a file, unless another process did so meanwhile: under a lock, into a partial file named by the etag, hashed
 * as it comes. What an earlier transfer left is hashed and gone on from. The file gets its name only when its hash is
 * right.
 * @returns whether it was fetched and checked here, or put there, unchecked, by somebody else
 * @throws DetailFlowError `corrupt` (the partial file is removed), `io` (no space: what came stays in the partial file),
 * `network`, `rate-limited`, ...
 */
export function transfer(
  wanted: Wanted,
  places: Places,
  options: TransferOptions,
): Promise<'fetched' | 'there'> {
  return advisingRoom(places.variable, () => locked(wanted, places, options));
}

interface TransferOptions {
  readonly settings: NodeHubSettings;
  readonly onBytes: (done: number) => void;
  /** The file is not good although it is there, unless it is newer than this call. */
  readonly anew?: boolean;
}

async function locked(
  wanted: Wanted,
  places: Places,
  options: TransferOptions,
): Promise<'fetched' | 'there'> {
  const { settings } = options;
  const { signal, onNotice } = settings;
  await makeFolder(path.dirname(places.blob));
  await makeFolder(path.dirname(places.lock));
  const before = options.anew ? await stampOf(places.blob) : undefined;
  await waitForPython(places.lock, { signal, onNotice });
  const lock = await FileLock.take(places.lock.replace(/\.lock$/, '.detailflow.lock'), {
    signal,
    onNotice,
    onBusy: ({ process: id }) => onNotice?.(`${wanted.name}: process ${id} is fetching it, waiting for that`),
    lostMessage: 'another process fetches this file since this one was stopped for long; try again',
  });
  try {
    const isOld = before !== undefined && before === (await stampOf(places.blob));
    if (!isOld && (await sizeOf(places.blob)) === wanted.size) return 'there';
    const all = signal ? AbortSignal.any([signal, lock.lost]) : lock.lost;
    await fetchInto(wanted, places, {
      onBytes: options.onBytes,
      settings: { ...settings, signal: all },
    });
    return 'fetched';
  } finally {
    await lock.release();
  }
}

async function fetchInto(
  wanted: Wanted,
  { blob, variable }: Places,
  { settings, onBytes }: { settings: NodeHubSettings; onBytes: (done: number) => void },
): Promise<void> {
  const partial = `${blob}.detailflow.incomplete`;
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o666).catch(
    cannot('be written', partial),
  );
  try {
    const file = new PartialFile(handle, partial, wanted);
    const needed = wanted.size - (await file.resume(settings.signal));
    await checkSpace(path.dirname(blob), needed, { name: wanted.name, variable });
    onBytes(file.done);
    let isResumed = file.done > 0;
    for (;;) {
      await retrying(settings, (gotFurther) => fetchRest(file, { wanted, settings, onBytes, gotFurther }));
      if (file.matches()) break;
      if (isResumed) {
        settings.onNotice?.(
          `${wanted.name}: what an earlier transfer left is damaged; fetching it from its beginning`,
        );
        isResumed = false;
        await file.restart();
        continue;
      }
      throw new DetailFlowError(
        'corrupt',
        `what arrived does not have the hash that was announced (${wanted.etag}); it was removed, try again`,
        { file: wanted.name },
      );
    }
    await handle.sync().catch(cannot('be written', partial));
    await handle.close().catch(cannot('be written', partial)); // some systems find out now that there is no room
  } catch (cause) {
    await handle.close().catch(() => {}); // it has failed already
    if (DetailFlowError.isInstance(cause) && cause.code === 'corrupt') await rm(partial, { force: true });
    throw cause;
  }
  await rename(partial, blob).catch(cannot('be moved into place', blob));
  await syncFolder(path.dirname(blob)).catch(cannot('be forced to disk', path.dirname(blob)));
}

/** Gives what the file system threw a type. */
const cannot = (what: string, file: string) => (cause: unknown) => {
  throw ioError(`cannot ${what}`, file, cause);
};

/** The beginning of a file, with its hash so far. */
class PartialFile implements Sink {
  done = 0;
  #hasher?: Hasher;

  constructor(
    readonly handle: FileHandle,
    readonly file: string,
    readonly wanted: Wanted,
  ) {
    this.#hasher = this.#begin();
  }

  #begin(): Hasher | undefined {
    const { etag, size } = this.wanted;
    return etag === undefined ? undefined : hasherOf(etag, size, nodeHasher);
  }

  /** Hashes what is there. @returns how many bytes that is */
  async resume(signal?: AbortSignal): Promise<number> {
    const { size } = await this.handle.stat().catch(cannot('be looked at', this.file));
    const { etag, ifRange } = this.wanted;
    const isOfUse = etag !== undefined || ifRange !== undefined;
    if (size > this.wanted.size || !isOfUse) {
      await this.restart();
      return 0;
    }
    const buffer = new Uint8Array(Math.min(PART, size));
    while (this.done < size) {
      signal?.throwIfAborted();
      const { bytesRead } = await this.handle
        .read(buffer, 0, buffer.length, this.done)
        .catch(cannot('be read, remove it', this.file));
      if (bytesRead === 0) break;
      this.#hasher?.update(buffer.subarray(0, bytesRead));
      this.done += bytesRead;
    }
    return this.done;
  }

  async append(part: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < part.length; ) {
        at += (await this.handle.write(part, at, part.length - at, this.done + at)).bytesWritten;
      }
    } catch (cause) {
      throw ioError('cannot be written', this.file, cause);
    }
    this.#hasher?.update(part);
    this.done += part.length;
  }

  async restart(): Promise<void> {
    await this.handle.truncate(0).catch(cannot('be emptied, remove it', this.file));
    this.done = 0;
    this.#hasher = this.#begin();
  }

  /** Asked once, at the end. */
  matches(): boolean {
    return this.#hasher?.hex() === this.wanted.etag;
  }
}

async function checkSpace(
  folder: string,
  needed: number,
  { name, variable }: { readonly name: string; readonly variable: string },
): Promise<void> {
  const { bavail, bsize } = await statfs(folder).catch(cannot('be asked for its free space', folder));
  const free = bavail * bsize;
  if (needed + SPARE <= free) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new DetailFlowError(
    'io',
    `${megabytes(needed)} are needed and ${megabytes(free)} are free in ${folder}; ${roomAdvice(variable)}`,
    { file: name },
  );
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch(cannot('be made', folder));
}

/** Changes when the file is replaced. */
async function stampOf(file: string): Promise<string | undefined> {
  const stats = await stat(file, { bigint: true }).catch(() => undefined);
  return stats && `${stats.ino} ${stats.mtimeNs}`;
}

export async function sizeOf(file: string): Promise<number | undefined> {
  try {
    const stats = await stat(file);
    return stats.isFile() ? stats.size : undefined;
  } catch {
    return undefined;
  }
}
