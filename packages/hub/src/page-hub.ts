import { blobSource, checkTreePath, type FileTree } from '@detailflow/checkpoint';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { type HubAddress, hubAddressOf } from './address';
import { fetchRest, type Sink } from './fetch-rest';
import { type Hasher, hasherOf, pageHasher } from './hashing';
import { HubApi, type HubFile } from './hub-api';
import {
  checkKinds,
  type HubProgress,
  type HubSettings,
  hubSettingNames,
  hubSettings,
  kinds,
} from './hub-options';
import { matchesPattern } from './patterns';
import { retrying } from './retry';
import { Tally } from './tally';

/** How {@link openHubInPage} works. */
export interface PageHubOptions extends Partial<Omit<HubSettings, 'redirect'>> {
  /** Patterns of the files that may be fetched, such as `*.json`; default: all. */
  readonly allow?: readonly string[];
  /** Told how far it is. */
  readonly onProgress?: (progress: HubProgress) => void;
  /** Name of the cache in the browser's Cache API; default `detailflow-hub`. */
  readonly cacheName?: string;
}

/**
 * A repository of the hub as a folder, in a page or worker: a file is fetched when it is opened, checked against the hash
 * that the hub lists, and kept in the browser's cache under that hash.
 * @param address `hf:org/name[@revision][/folder]`
 * @throws DetailFlowError as `openHub` of `@detailflow/hub/node`; `io` when the browser has no room
 * @see https://detailflow.github.io/detailflow-ts/guide/hub.html
 */
export async function openHubInPage(
  address: string | HubAddress,
  options: PageHubOptions = {},
): Promise<FileTree> {
  const { redirect: _, ...names } = hubSettingNames;
  checkOptions('openHubInPage', options, { ...names, allow: true, onProgress: true, cacheName: true });
  const { allow, onProgress, cacheName = 'detailflow-hub', ...given } = options;
  checkKinds(
    { allow, onProgress, cacheName },
    { allow: kinds.texts, onProgress: kinds.function, cacheName: kinds.text },
  );
  const settings = hubSettings({ ...given, redirect: 'follow' });
  const parsed = hubAddressOf(address);
  const api = new HubApi(settings, parsed);
  const commit = await api.commit();
  const files = await api.files(commit);
  const tally = new Tally(onProgress);
  const name = api.name(parsed.path);
  const prefix = parsed.path === '' ? '' : `${parsed.path}/`;
  const isAllowed = (file: string) => allow === undefined || matchesPattern(file, allow);
  return {
    name,
    async exists(file) {
      checkTreePath(name, file);
      return files.has(prefix + file) && isAllowed(prefix + file);
    },
    async list(folder) {
      if (folder !== '') checkTreePath(name, folder);
      const start = folder === '' ? prefix : `${prefix}${folder}/`;
      const below = [...files.keys()].filter((file) => file.startsWith(start) && isAllowed(file));
      return below
        .map((file) => file.slice(start.length))
        .filter((file) => !file.includes('/'))
        .sort();
    },
    async open(file) {
      checkTreePath(name, file);
      const entry = files.get(prefix + file);
      const what = api.name(prefix + file);
      if (!entry || !isAllowed(entry.path))
        throw new DetailFlowError('not-found', 'there is no such file', { file: what });
      const cache = await caches.open(cacheName);
      const kept = await locked(`${cacheName}/${entry.etag}`, settings.signal, () =>
        keptOrFetched(cache, entry, { api, commit, what, tally }),
      );
      return blobSource(kept, what);
    },
  };
}

async function keptOrFetched(
  cache: Cache,
  file: HubFile,
  { api, commit, what, tally }: { api: HubApi; commit: string; what: string; tally: Tally },
): Promise<Blob> {
  const { settings } = api;
  const { etag, size } = file;
  const key = `https://detailflow.invalid/${etag}`;
  tally.expect(file.path, size);
  const kept = await (await cache.match(key))?.blob();
  if (kept?.size === size) {
    tally.set(file.path, size);
    return kept;
  }
  await checkRoom(size, what);
  const sink = new BlobSink(file);
  const wanted = { name: what, url: api.fileAddress(commit, file.path), size, etag };
  const onBytes = (done: number) => tally.set(file.path, done);
  await retrying(settings, (gotFurther) => fetchRest(sink, { wanted, settings, onBytes, gotFurther }));
  if (!sink.matches()) {
    throw new DetailFlowError(
      'corrupt',
      `what arrived does not have the hash that was announced (${etag}); it was not kept, try again`,
      { file: what },
    );
  }
  const blob = sink.blob();
  try {
    await cache.put(key, new Response(blob));
  } catch (cause) {
    throw new DetailFlowError('io', 'cannot be kept: the browser has no room', { file: what, cause });
  }
  return blob;
}

/** Joins parts to blobs, which a browser can move to disk. */
const JOINED = 64 * 2 ** 20;

class BlobSink implements Sink {
  done = 0;
  #joined: Blob[] = [];
  #parts: Uint8Array<ArrayBuffer>[] = [];
  #waiting = 0;
  #hasher: Hasher;

  constructor(readonly file: HubFile) {
    this.#hasher = hasherOf(file.etag, file.size, pageHasher);
  }

  async append(part: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#hasher.update(part);
    this.#parts.push(part);
    this.done += part.length;
    this.#waiting += part.length;
    if (this.#waiting >= JOINED) this.#join();
  }

  async restart(): Promise<void> {
    [this.#joined, this.#parts, this.#waiting, this.done] = [[], [], 0, 0];
    this.#hasher = hasherOf(this.file.etag, this.file.size, pageHasher);
  }

  /** Asked once, at the end. */
  matches(): boolean {
    return this.#hasher.hex() === this.file.etag;
  }

  blob(): Blob {
    this.#join();
    return new Blob(this.#joined);
  }

  #join(): void {
    this.#joined.push(new Blob(this.#parts));
    [this.#parts, this.#waiting] = [[], 0];
  }
}

async function checkRoom(size: number, what: string): Promise<void> {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  if (quota === undefined || usage + size <= quota) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new DetailFlowError(
    'io',
    `${megabytes(size)} are needed and the browser gives ${megabytes(Math.max(0, quota - usage))}`,
    { file: what },
  );
}

/** One tab at a time, where the browser has locks. */
function locked<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const { locks } = navigator as { locks?: LockManager };
  return locks ? (locks.request(name, { signal }, work) as Promise<T>) : work();
}
