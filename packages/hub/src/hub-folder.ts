import { readdir, realpath } from 'node:fs/promises';
import path from 'node:path';
import { checkTreePath, type FileTree } from '@detailflow/checkpoint';
import { ioError, openFile } from '@detailflow/checkpoint/node';
import { type ByteSource, checkOptions, DetailFlowError } from '@detailflow/core';
import { type HubAddress, hubAddressOf } from './address';
import { blockSource } from './block-source';
import { CacheFolder, HUB_CACHE } from './cache-folder';
import { type NodeHubSettings, nodeHubSettings } from './environment';
import { fetchRange } from './fetch-range';
import { advisingRoom } from './full-disk';
import { HubApi, type HubFile } from './hub-api';
import { checkKinds, type HubProgress, hubSettingNames, kinds } from './hub-options';
import { matchesPattern } from './patterns';
import { Tally } from './tally';
import { sizeOf, transfer } from './transfer';

/** How {@link openHub} works; what is left out comes from the environment. */
export interface OpenHubOptions extends Partial<NodeHubSettings> {
  /** Patterns of the files that may be fetched, such as `*.json`; default: all. */
  readonly allow?: readonly string[];
  /** Told how far it is. */
  readonly onProgress?: (progress: HubProgress) => void;
  /**
   * Patterns of files that are not fetched when they are opened, unless they are in the cache, but read by ranges and kept
   * in memory only: of a checkpoint only the tensors in use travel. Their content is not checked against its hash.
   */
  readonly partial?: readonly string[];
}

/** @throws DetailFlowError `invalid-argument` for unknown options, and for those that are not of their kind */
export function checkFolderOptions(where: string, options: OpenHubOptions): void {
  checkOptions(where, options, {
    ...{ ...hubSettingNames, cache: true, urlCache: true, offline: true },
    ...{ allow: true, onProgress: true, partial: true },
  });
  const { allow, partial, onProgress } = options;
  checkKinds({ allow, partial }, { allow: kinds.texts, partial: kinds.texts });
  checkKinds({ onProgress }, { onProgress: kinds.function });
}

/**
 * A repository of the hub as a folder: a file is fetched when it is opened, and lies in the cache from then on, which
 * Python's huggingface_hub shares. Opened files are local, so that a runtime can map them.
 * @param address `hf:org/name[@revision][/path]`; the path is a folder, or one file
 * @throws DetailFlowError `invalid-argument`, `not-found`, `gated`, `unauthorised`, `offline`, `network`,
 * `rate-limited`; `format` for a listing that leads out of its folder
 * @see https://detailflow.github.io/detailflow-ts/guide/hub.html
 */
export async function openHub(
  address: string | HubAddress,
  options: OpenHubOptions = {},
): Promise<HubFolder> {
  checkFolderOptions('openHub', options);
  const { allow, onProgress, partial, ...given } = options;
  const parsed = hubAddressOf(address);
  const settings = await nodeHubSettings(given);
  return HubFolder.open(parsed, settings, { allow, onProgress, partial });
}

/** See {@link openHub}. */
export class HubFolder implements FileTree {
  readonly name: string;
  readonly #settings: NodeHubSettings;
  readonly #api: HubApi;
  readonly #cache: CacheFolder;
  readonly #allow?: readonly string[];
  readonly #tally: Tally;
  readonly #partial: readonly string[];

  private constructor(
    api: HubApi,
    settings: NodeHubSettings,
    /** The commit that all files are of. */
    readonly commit: string,
    /** The files of the repository by path; undefined when only those in the cache are known. */
    private readonly files: ReadonlyMap<string, HubFile> | undefined,
    options: Pick<OpenHubOptions, 'allow' | 'onProgress' | 'partial'>,
  ) {
    this.name = api.name(api.address.path);
    this.#api = api;
    this.#settings = settings;
    this.#cache = new CacheFolder(settings.cache, api.address);
    this.#allow = options.allow;
    this.#tally = new Tally(options.onProgress);
    this.#partial = options.partial ?? [];
  }

  /** As {@link openHub}, with settings of one's own. */
  static async open(
    address: HubAddress,
    settings: NodeHubSettings,
    options: Pick<OpenHubOptions, 'allow' | 'onProgress' | 'partial'>,
  ): Promise<HubFolder> {
    const api = new HubApi(settings, address);
    const cache = new CacheFolder(settings.cache, address);
    const fromCache = async () => {
      const commit = await cache.readRef(address.revision);
      const known = commit && (await readdir(cache.snapshot(commit)).catch(() => undefined));
      return known ? commit : undefined;
    };
    if (settings.offline) {
      const commit = await fromCache();
      if (commit !== undefined) return new HubFolder(api, settings, commit, undefined, options);
      throw new DetailFlowError(
        'offline',
        `is not in the cache ${settings.cache}, and the network is not used (HF_HUB_OFFLINE)`,
        { file: api.name() },
      );
    }
    let commit: string;
    let files: ReadonlyMap<string, HubFile>;
    try {
      commit = await api.commit();
      files = await api.files(commit);
    } catch (cause) {
      if (!DetailFlowError.isInstance(cause) || cause.code !== 'network') throw cause;
      const known = await fromCache();
      if (known === undefined) throw cause;
      settings.onNotice?.(`${cause.message}; what is in the cache is used (commit ${known.slice(0, 10)})`);
      return new HubFolder(api, settings, known, undefined, options);
    }
    await advisingRoom(HUB_CACHE, async () => {
      await cache.prepare();
      await cache.writeRef(address.revision, commit);
    });
    return new HubFolder(api, settings, commit, files, options);
  }

  /** Whether the address names one file. */
  async isFile(): Promise<boolean> {
    const { path: inside } = this.#api.address;
    return inside !== '' && (await this.#exists(inside));
  }

  async exists(file: string): Promise<boolean> {
    checkTreePath(this.name, file);
    return this.#exists(this.#inside(file));
  }

  async list(folder: string): Promise<string[]> {
    if (folder !== '') checkTreePath(this.name, folder);
    const prefix = [this.#api.address.path, folder].filter((part) => part !== '').join('/');
    const names = await this.#paths(prefix === '' ? '' : `${prefix}/`);
    return names.filter((name) => !name.includes('/')).sort();
  }

  /** A file, fetched if it is not in the cache. @throws DetailFlowError as {@link openHub} */
  async open(file: string): Promise<ByteSource> {
    checkTreePath(this.name, file);
    const name = this.#inside(file);
    return (await this.#openPartial(name)) ?? openFile(await this.#fetch(name));
  }

  /** A file that is read by ranges; undefined for others, and for what is in the cache. */
  async #openPartial(name: string): Promise<ByteSource | undefined> {
    const listed = this.files?.get(name);
    if (!listed || !this.#isAllowed(name) || !matchesPattern(name, this.#partial)) return undefined;
    await this.#cache.adopt(this.commit, listed);
    if ((await sizeOf(this.#cache.places(listed.etag).blob)) === listed.size) return undefined;
    const what = this.#api.name(name);
    const url = this.#api.fileAddress(this.commit, name);
    const settings = this.#settings;
    settings.onNotice?.(`${what}: read by ranges, so its content is not checked against its hash`);
    const wanted = { url, name: what, file: listed, settings };
    return blockSource({ name: what, size: listed.size }, (from, to) => fetchRange(wanted, from, to));
  }

  /**
   * Fetches all files that the address and `allow` name.
   * @returns the path of the folder, or of the one file, in the cache
   * @throws DetailFlowError `not-found` when there are none
   */
  async fetch(): Promise<string> {
    const { path: inside } = this.#api.address;
    if (await this.isFile()) return this.#fetch(inside);
    const prefix = inside === '' ? '' : `${inside}/`;
    const wanted = (await this.#paths(prefix))
      .map((name) => prefix + name)
      .filter((name) => this.#isAllowed(name));
    if (wanted.length === 0)
      throw new DetailFlowError('not-found', 'there are no such files', { file: this.name });
    for (const name of wanted) {
      const entry = this.files?.get(name);
      if (entry) this.#tally.expect(name, entry.size);
    }
    for (const name of wanted) await this.#fetch(name);
    return path.join(this.#cache.snapshot(this.commit), ...inside.split('/'));
  }

  #inside(file: string): string {
    const { path: folder } = this.#api.address;
    return folder === '' ? file : `${folder}/${file}`;
  }

  #isAllowed(name: string): boolean {
    return this.#allow === undefined || matchesPattern(name, this.#allow);
  }

  async #exists(name: string): Promise<boolean> {
    if (!this.#isAllowed(name)) return false;
    return this.files ? this.files.has(name) : (await this.#cached(name)) !== undefined;
  }

  /** Paths below a prefix, without it. */
  async #paths(prefix: string): Promise<string[]> {
    const all = this.files ? [...this.files.keys()] : await this.#cachedPaths();
    return all
      .filter((name) => name.startsWith(prefix) && this.#isAllowed(name))
      .map((name) => name.slice(prefix.length));
  }

  async #cachedPaths(): Promise<string[]> {
    const root = this.#cache.snapshot(this.commit);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch((cause) => {
      throw ioError('cannot be listed', root, cause);
    });
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) =>
        path
          .relative(root, path.join(entry.parentPath ?? entry.path, entry.name))
          .split(path.sep)
          .join('/'),
      );
  }

  /** The file in the snapshot, and the etag that its link leads to; undefined when it is not there. */
  async #cached(name: string): Promise<{ pointer: string; etag?: string } | undefined> {
    const pointer = this.#cache.pointer(this.commit, name);
    if ((await sizeOf(pointer)) === undefined) return undefined;
    return { pointer, etag: await this.#cache.linked(this.commit, name) };
  }

  /** Brings a file into the cache. @returns its path there */
  async #fetch(name: string): Promise<string> {
    const what = this.#api.name(name);
    if (!this.#isAllowed(name)) {
      throw new DetailFlowError('not-found', 'is left out by the patterns of the files that may be fetched', {
        file: what,
      });
    }
    if (this.files) return this.#fetchListed(this.files.get(name), name, what);
    const cached = await this.#cached(name);
    if (cached === undefined) {
      const { offline, cache } = this.#settings;
      throw new DetailFlowError(
        offline ? 'offline' : 'network',
        `is not in the cache ${cache}, and ${offline ? 'the network is not used (HF_HUB_OFFLINE)' : 'the hub cannot be reached'}`,
        { file: what },
      );
    }
    await this.#checkCached(name, cached, what);
    return cached.pointer;
  }

  async #checkCached(
    name: string,
    { pointer, etag }: { pointer: string; etag?: string },
    what: string,
  ): Promise<void> {
    if (etag === undefined) {
      this.#settings.onNotice?.(`${pointer}: this copy has no hash beside it, so its content is not checked`);
      return;
    }
    const file = await openFile(pointer);
    const { size } = file;
    await file.close();
    this.#tally.expect(name, size);
    const onBytes = (done: number) => this.#tally.set(name, done);
    if (await this.#cache.holds({ path: name, etag, size }, onBytes, this.#settings.signal)) return;
    throw new DetailFlowError(
      'corrupt',
      `the file in the cache does not have its hash ${etag}; remove ${pointer}, and fetch it anew with the network`,
      { file: what },
    );
  }

  async #fetchListed(listed: HubFile | undefined, name: string, what: string): Promise<string> {
    if (!listed) throw new DetailFlowError('not-found', 'there is no such file', { file: what });
    const settings = this.#settings;
    this.#tally.expect(name, listed.size);
    const onBytes = (done: number) => this.#tally.set(name, done);
    const { blob } = this.#cache.places(listed.etag);
    await this.#cache.adopt(this.commit, listed);
    while (!(await this.#cache.holds(listed, onBytes, settings.signal))) {
      if ((await realpath(blob).catch(() => undefined)) !== undefined) {
        settings.onNotice?.(`${what}: the file in the cache is damaged (${blob}); it is fetched anew`);
        await this.#cache.removeBlob(listed.etag);
      }
      const announced = await this.#api.head(this.commit, name);
      if (announced.etag !== listed.etag || announced.size !== listed.size) {
        throw new DetailFlowError(
          'corrupt',
          `the hub announces ${announced.size} bytes with hash ${announced.etag}, and lists ${listed.size} with ${listed.etag}; nothing was fetched`,
          { file: what },
        );
      }
      const url = this.#api.fileAddress(this.commit, name);
      const wanted = { name: what, url, size: listed.size, etag: listed.etag };
      if ((await transfer(wanted, this.#cache.places(listed.etag), { settings, onBytes })) === 'there')
        continue;
      await this.#cache.noteChecked(listed.etag);
      break;
    }
    return advisingRoom(HUB_CACHE, () => this.#cache.link(this.commit, listed));
  }
}
