import { constants, type FileHandle, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { FileLock, ioError, syncFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { NodeHubSettings } from './environment';
import { type Hasher, hasherOf } from './hashing';
import { nodeHasher } from './node-hashing';
import { waitForPython } from './python-lock';
import { type Answer, refusal, request } from './request';
import { askedWait, mayPass, Passing, retrying } from './retry';
import { Watch } from './watched-body';

/** A file to fetch. */
export interface Wanted {
  /** For messages. */
  readonly name: string;
  readonly url: string;
  readonly size: number;
  /** SHA-256 of the content, or git's SHA-1 of it as a blob. */
  readonly etag: string;
}

/** Where it goes. */
export interface Places {
  /** The whole file, named by its etag. */
  readonly blob: string;
  /** The file of the lock that Python takes. */
  readonly lock: string;
}

/** After so many bytes earlier faults of the network are forgotten. */
const FORGIVING = 8 * 2 ** 20;
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
  options: { readonly settings: NodeHubSettings; readonly onBytes: (done: number) => void },
): Promise<'fetched' | 'there'> {
  const { settings } = options;
  const { signal, onNotice } = settings;
  await makeFolder(path.dirname(places.blob));
  await makeFolder(path.dirname(places.lock));
  await waitForPython(places.lock, { signal, onNotice });
  const lock = await FileLock.take(places.lock.replace(/\.lock$/, '.detailflow.lock'), {
    signal,
    onNotice,
    onBusy: ({ process: id }) => onNotice?.(`${wanted.name}: process ${id} is fetching it, waiting for that`),
    lostMessage: 'another process fetches this file since this one was stopped for long; try again',
  });
  try {
    if ((await sizeOf(places.blob)) === wanted.size) return 'there';
    const all = signal ? AbortSignal.any([signal, lock.lost]) : lock.lost;
    await fetchInto(wanted, places.blob, { ...options, settings: { ...settings, signal: all } });
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
        settings.onNotice?.(`${wanted.name}: what an earlier transfer left is damaged; fetching it from its beginning`);
        isResumed = false;
        await file.restart();
        continue;
      }
      await rm(partial, { force: true });
      throw new DetailFlowError(
        'corrupt',
        `what arrived does not have the hash that the hub announces (${wanted.etag}); it was removed, try again`,
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

async function fetchRest(
  file: PartialFile,
  {
    wanted,
    settings,
    onBytes,
    gotFurther,
  }: {
    readonly wanted: Wanted;
    readonly settings: NodeHubSettings;
    readonly onBytes: (done: number) => void;
    readonly gotFurther: () => void;
  },
): Promise<void> {
  if (file.done === wanted.size) return;
  const watch = new Watch(settings, wanted.name);
  try {
    const headers = file.done > 0 ? { Range: `bytes=${file.done}-` } : undefined;
    const answer = await request(settings, wanted.url, { headers, signal: watch.signal });
    await begin(file, answer, { wanted, settings });
    for (let news = 0; ; ) {
      for await (const part of watch.parts(answer.response)) {
        if (file.done + part.length > wanted.size) {
          throw new DetailFlowError(
            'corrupt',
            `more than the ${wanted.size} bytes arrive that the hub announces; what came was removed`,
            { file: wanted.name },
          );
        }
        await file.append(part);
        onBytes(file.done);
        news += part.length;
        if (news < FORGIVING) continue;
        news = 0;
        gotFurther();
      }
      break;
    }
    if (file.done < wanted.size) {
      const message = `the transfer ended after ${file.done} of ${wanted.size} bytes`;
      throw new Passing(new DetailFlowError('network', message, { file: wanted.name }));
    }
  } catch (cause) {
    throw watch.fault(cause);
  } finally {
    watch.end();
  }
}

/** Checks that an answer is the part that was asked for; where it is the whole file, the partial one begins anew. */
async function begin(
  file: PartialFile,
  answer: Answer,
  { wanted, settings }: { readonly wanted: Wanted; readonly settings: NodeHubSettings },
): Promise<void> {
  const { response, header } = answer;
  const again = async (message: string, wait?: number) => {
    await response.body?.cancel();
    return new Passing(new DetailFlowError('network', message, { file: wanted.name }), wait);
  };
  const { status } = response;
  if (status === 416) {
    await file.restart();
    throw await again('the server has no such range');
  }
  if (status >= 300) {
    await response.body?.cancel();
    const error = refusal(answer, wanted.name, settings);
    // A signed address that ran out is refused by the host of the content; the hub hands out another one.
    const isForeign = new URL(answer.url).origin !== new URL(settings.endpoint).origin;
    throw mayPass(status) || (isForeign && status === 403) ? new Passing(error, askedWait(header)) : error;
  }
  const encoding = response.headers.get('content-encoding');
  if (encoding !== null && encoding !== 'identity') throw await again(`the server sends it as ${encoding}`);
  if (status === 200) {
    if (file.done > 0) await file.restart();
    const length = response.headers.get('content-length');
    if (length !== null && Number(length) !== wanted.size) {
      await response.body?.cancel();
      throw new DetailFlowError(
        'corrupt',
        `${length} bytes are sent, not the ${wanted.size} that the hub announces; nothing was kept`,
        { file: wanted.name },
      );
    }
    return;
  }
  const range = response.headers.get('content-range') ?? 'none';
  if (status === 206 && file.done > 0 && range === `bytes ${file.done}-${wanted.size - 1}/${wanted.size}`) return;
  await file.restart();
  throw await again(`the server sends another part than was asked for (status ${status}, range ${range.slice(0, 80)})`);
}

/** The beginning of a file, with its hash so far. */
class PartialFile {
  done = 0;
  #hasher: Hasher;

  constructor(
    readonly handle: FileHandle,
    readonly file: string,
    readonly wanted: Wanted,
  ) {
    this.#hasher = hasherOf(wanted.etag, wanted.size, nodeHasher);
  }

  /** Hashes what is there. @returns how many bytes that is */
  async resume(signal?: AbortSignal): Promise<number> {
    const { size } = await this.handle.stat();
    if (size > this.wanted.size) {
      await this.restart();
      return 0;
    }
    const buffer = new Uint8Array(Math.min(PART, size));
    while (this.done < size) {
      signal?.throwIfAborted();
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.done);
      if (bytesRead === 0) break;
      this.#hasher.update(buffer.subarray(0, bytesRead));
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
    this.#hasher.update(part);
    this.done += part.length;
  }

  async restart(): Promise<void> {
    await this.handle.truncate(0);
    this.done = 0;
    this.#hasher = hasherOf(this.wanted.etag, this.wanted.size, nodeHasher);
  }

  /** Asked once, at the end. */
  matches(): boolean {
    return this.#hasher.hex() === this.wanted.etag;
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

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    const stats = await stat(file);
    return stats.isFile() ? stats.size : undefined;
  } catch {
    return undefined;
  }
}
