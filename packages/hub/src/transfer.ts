import { constants, type FileHandle, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { FileLock, ioError, syncFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { NodeHubSettings } from './environment';
import { fetchRest, type Sink, type Wanted } from './fetch-rest';
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
}

const PART = 2 ** 20;
/** Left free on the disk. */
const SPARE = 2 ** 20;

/**
 * Fetches a file, unless another process did so meanwhile: under a lock, into a partial file named by the etag, hashed
 * as it comes. What an earlier transfer left is hashed and gone on from. The file gets its name only when its hash is
 * right.
 * @returns whether it was fetched and checked here, or put there, unchecked, by somebody else
 * @throws DetailFlowError `corrupt` (the partial file is removed), `io` (no space), `network`, `rate-limited`, ...
 */
export async function transfer(
  wanted: Wanted,
  places: Places,
  options: {
    readonly settings: NodeHubSettings;
    readonly onBytes: (done: number) => void;
    /** The file is not good although it is there, unless it is newer than this call. */
    readonly anew?: boolean;
  },
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
    await fetchInto(wanted, places.blob, {
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
  blob: string,
  { settings, onBytes }: { settings: NodeHubSettings; onBytes: (done: number) => void },
): Promise<void> {
  const partial = `${blob}.detailflow.incomplete`;
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o666).catch((cause) => {
    throw ioError('cannot be written', partial, cause);
  });
  try {
    const file = new PartialFile(handle, partial, wanted);
    await checkSpace(path.dirname(blob), wanted.size - (await file.resume(settings.signal)), wanted.name);
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
      await rm(partial, { force: true });
      throw new DetailFlowError(
        'corrupt',
        `what arrived does not have the hash that was announced (${wanted.etag}); it was removed, try again`,
        { file: wanted.name },
      );
    }
    await handle.sync();
  } catch (cause) {
    if (DetailFlowError.isInstance(cause) && cause.code === 'corrupt') await rm(partial, { force: true });
    throw cause;
  } finally {
    await handle.close();
  }
  try {
    await rename(partial, blob);
    await syncFolder(path.dirname(blob));
  } catch (cause) {
    throw ioError('cannot be moved into place', blob, cause);
  }
}

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
    const { size } = await this.handle.stat();
    const { etag, ifRange } = this.wanted;
    const isOfUse = etag !== undefined || ifRange !== undefined;
    if (size > this.wanted.size || !isOfUse) {
      await this.restart();
      return 0;
    }
    const buffer = new Uint8Array(Math.min(PART, size));
    while (this.done < size) {
      signal?.throwIfAborted();
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.done);
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
    await this.handle.truncate(0);
    this.done = 0;
    this.#hasher = this.#begin();
  }

  /** Asked once, at the end. */
  matches(): boolean {
    return this.#hasher?.hex() === this.wanted.etag;
  }
}

async function checkSpace(folder: string, needed: number, name: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (needed + SPARE <= free) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new DetailFlowError(
    'io',
    `${megabytes(needed)} are needed and ${megabytes(free)} are free in ${folder}; make room, or set HF_HUB_CACHE to a folder on another disk`,
    { file: name },
  );
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((cause) => {
    throw ioError('cannot be made', folder, cause);
  });
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
