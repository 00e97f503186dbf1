import {
  copyFile,
  link,
  lstat,
  mkdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { ioError, openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import { type HubAddress, isCommit } from './address';
import { hasherOf } from './hashing';
import type { HubFile } from './hub-api';
import { nodeHasher } from './node-hashing';
import type { Places } from './transfer';

const TAG = `Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by huggingface_hub.
# For information about cache directory tags, see:
#	https://bford.info/cachedir/
`;
const PART = 2 ** 20;
const ETAG = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** The variable of the environment that says where it is. */
export const HUB_CACHE = 'HF_HUB_CACHE';

/**
 * The part of Python's cache that belongs to one repository: `models--org--name/{blobs/ETAG, snapshots/COMMIT/path ->
 * blob, refs/REVISION}` and `.locks/models--org--name/ETAG.lock`. Callers have checked etags, commits and paths.
 */
export class CacheFolder {
  readonly #root: string;
  readonly #locks: string;

  constructor(
    readonly cache: string,
    { type, repository }: HubAddress,
  ) {
    const name = [`${type}s`, ...repository.split('/')].join('--');
    this.#root = path.join(cache, name);
    this.#locks = path.join(cache, '.locks', name);
  }

  places(etag: string): Places {
    const lock = path.join(this.#locks, `${etag}.lock`);
    return { blob: path.join(this.#root, 'blobs', etag), lock, variable: HUB_CACHE };
  }

  snapshot(commit: string): string {
    return path.join(this.#root, 'snapshots', commit);
  }

  /** Makes the folder and says to backup programs what it is. */
  async prepare(): Promise<void> {
    try {
      await mkdir(this.cache, { recursive: true });
      await writeFile(path.join(this.cache, 'CACHEDIR.TAG'), TAG, { flag: 'wx' });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
        throw ioError('cannot be written', this.cache, cause);
    }
  }

  /** The commit that a revision meant when the hub was last asked. */
  async readRef(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readFile(path.join(this.#root, 'refs', ...revision.split('/')), 'utf8').catch(
      () => '',
    );
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.readRef(revision)) === commit) return;
    const file = path.join(this.#root, 'refs', ...revision.split('/'));
    await mkdir(path.dirname(file), { recursive: true }).catch((cause) => {
      throw ioError('cannot be made', path.dirname(file), cause);
    });
    await writeFileAtomically(file, (write) => write(new TextEncoder().encode(commit)));
  }

  /** Where a file of a snapshot lies, whether it is there or not. */
  pointer(commit: string, inside: string): string {
    return path.join(this.snapshot(commit), ...inside.split('/'));
  }

  /** The etag of the blob that a snapshot's path leads to; undefined for a copy, which has no hash beside it. */
  async linked(commit: string, inside: string): Promise<string | undefined> {
    // The first link alone: a blob may be a link itself, into the store that Python's repositories share, where files are
    // named by other hashes.
    const target = await readlink(this.pointer(commit, inside)).catch(() => '');
    const etag = path.basename(target);
    return ETAG.test(etag) ? etag : undefined;
  }

  /**
   * Lets a blob that is not there be what the snapshot holds itself: where a system has no symbolic links, Python moves the
   * file there. Its content is not looked at, as with every blob that is found. Without hard links it is fetched.
   */
  async adopt(commit: string, { path: inside, etag, size }: HubFile): Promise<void> {
    const pointer = this.pointer(commit, inside);
    const { blob } = this.places(etag);
    const copy = await lstat(pointer).catch(() => undefined);
    if (!copy?.isFile() || copy.size !== size) return;
    await mkdir(path.dirname(blob), { recursive: true })
      .then(() => link(pointer, blob))
      .catch(() => {}); // not where there is a blob
  }

  /** Lets a snapshot's path lead to a blob, or hold a copy where the system has no links. */
  async link(commit: string, { path: inside, etag }: HubFile): Promise<string> {
    const pointer = this.pointer(commit, inside);
    const { blob } = this.places(etag);
    if (await isSame(pointer, blob)) return pointer;
    const aside = `${pointer}.${process.pid}.${Math.random().toString(36).slice(2)}`;
    try {
      await mkdir(path.dirname(pointer), { recursive: true });
      await symlink(path.relative(path.dirname(pointer), blob), aside)
        .catch(() => link(blob, aside))
        .catch(() => copyFile(blob, aside));
      await rename(aside, pointer);
      return pointer;
    } catch (cause) {
      await rm(aside, { force: true });
      throw ioError('cannot be written', pointer, cause);
    }
  }

  /**
   * Whether the blob is there and its content has its hash. That is computed once: a note beside the lock keeps size and
   * time of the file that was checked, since Python checks sizes only.
   */
  async holds(
    { etag, size }: HubFile,
    onBytes: (done: number) => void,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const { blob } = this.places(etag);
    const stamp = await stampOf(blob);
    if (stamp === undefined || stamp.size !== size) return false;
    const note = path.join(this.#locks, `${etag}.detailflow.checked`);
    if ((await readFile(note, 'utf8').catch(() => '')) === stamp.text) {
      onBytes(size);
      return true;
    }
    if ((await this.#hash(blob, { etag, size, onBytes, signal })) !== etag) return false;
    await this.noteChecked(etag);
    return true;
  }

  /** Notes that the blob as it lies there has the right content. */
  async noteChecked(etag: string): Promise<void> {
    const stamp = await stampOf(this.places(etag).blob);
    if (stamp === undefined) return;
    const note = path.join(this.#locks, `${etag}.detailflow.checked`);
    await mkdir(this.#locks, { recursive: true })
      .then(() => writeFileAtomically(note, (write) => write(new TextEncoder().encode(stamp.text))))
      .catch(() => {}); // a cache that cannot be written to is checked every time
  }

  async #hash(
    blob: string,
    options: { etag: string; size: number; onBytes: (done: number) => void; signal?: AbortSignal },
  ): Promise<string> {
    const { etag, size, onBytes, signal } = options;
    const hasher = hasherOf(etag, size, nodeHasher);
    const file = await openFile(blob);
    try {
      for (let at = 0; at < size; at += PART) {
        signal?.throwIfAborted();
        hasher.update(await file.read(at, Math.min(PART, size - at)));
        onBytes(Math.min(at + PART, size));
      }
      return hasher.hex();
    } finally {
      await file.close();
    }
  }

  async removeBlob(etag: string): Promise<void> {
    const { blob } = this.places(etag);
    await rm(blob, { force: true }).catch((cause) => {
      throw ioError('is damaged and cannot be removed', blob, cause);
    });
  }
}

async function stampOf(file: string): Promise<{ size: number; text: string } | undefined> {
  const stats = await stat(file, { bigint: true }).catch(() => undefined);
  if (!stats?.isFile()) return undefined;
  return { size: Number(stats.size), text: `${stats.size} ${stats.mtimeNs} ${stats.ino}\n` };
}

async function isSame(pointer: string, blob: string): Promise<boolean> {
  const [a, b] = await Promise.all([pointer, blob].map((file) => stat(file).catch(() => undefined)));
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}
