import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { checkTreePath, type FileTree } from '@detailflow/checkpoint';
import { digestFile, openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import { type NodeHubSettings, nodeHubSettings } from './environment';
import { advisingRoom } from './full-disk';
import { HubApi } from './hub-api';
import { checkFolderOptions, type OpenHubOptions } from './hub-folder';
import { refusal, shown } from './request';
import { Tally } from './tally';
import { sizeOf, transfer } from './transfer';

/** The variable of the environment that says where the cache is. */
const URL_CACHE = 'HF_HOME';

/** What a web server says of a file. */
interface Announced {
  readonly size: number;
  /** Distinguishes versions of the file; undefined when the server says nothing of the kind. */
  readonly version?: string;
  /** For `If-Range`; only what is exact to the byte. */
  readonly ifRange?: string;
}

/**
 * Files of an ordinary web server, fetched into a cache when they are opened and looked at anew every time (HEAD). Such
 * a server announces no hash: length and version are checked, and the content where the address ends with
 * `#sha256=HEX`.
 */
export class UrlFiles {
  readonly #settings: NodeHubSettings;
  readonly #api: HubApi;
  readonly #tally: Tally;

  private constructor(settings: NodeHubSettings, options: OpenHubOptions) {
    // The token is the hub's.
    this.#settings = { ...settings, token: undefined };
    this.#api = new HubApi(this.#settings, { type: 'model', repository: '', revision: '', path: '' });
    this.#tally = new Tally(options.onProgress);
  }

  static async create(options: OpenHubOptions = {}): Promise<UrlFiles> {
    checkFolderOptions('openRemote', options);
    const { allow: _, onProgress: __, partial: ___, ...given } = options;
    return new UrlFiles(await nodeHubSettings(given), options);
  }

  /**
   * Fetches one file, unless it is in the cache.
   * @returns its path there; the name is that of the address
   * @throws DetailFlowError `not-found`, `unauthorised`, `offline`, `network`, `corrupt`, ...
   */
  async fetch(address: string): Promise<string> {
    const url = webAddress(address);
    const pin = /^#sha256=([0-9a-f]{64})$/.exec(url.hash)?.[1];
    if (url.hash !== '' && pin === undefined) {
      throw new DetailFlowError('invalid-argument', 'ends with # and something else than sha256=HEX', {
        file: shown(address),
      });
    }
    url.hash = '';
    const { offline, urlCache, onNotice } = this.#settings;
    const folder = path.join(urlCache, url.host.replace(/[^\w.-]/g, '_'));
    const note = path.join(folder, `${digest(url.href)}.json`);
    const announced = offline ? await readNote(note) : await this.#look(url);
    if (announced === undefined) {
      throw new DetailFlowError('offline', `is not in the cache ${urlCache}, and the network is not used`, {
        file: shown(address),
      });
    }
    const key = pin ?? digest(`${url.href}\n${announced.version ?? announced.size}`);
    const blob = path.join(folder, key, fileName(url));
    const name = shown(url.href);
    this.#tally.expect(name, announced.size);
    const onBytes = (done: number) => this.#tally.set(name, done);
    // Without a version the file may be another one of the same length.
    const isCurrent = (await sizeOf(blob)) === announced.size && (offline || pin || announced.version);
    if (isCurrent && (pin === undefined || Buffer.from(await digestFile(blob)).toString('hex') === pin)) {
      onBytes(announced.size);
      return blob;
    }
    if (offline) {
      throw new DetailFlowError('offline', `is not in the cache ${urlCache}, and the network is not used`, {
        file: name,
      });
    }
    if (pin === undefined) onNotice?.(`${name}: the server announces no hash, so only the length is checked`);
    const { size, ifRange } = announced;
    await transfer(
      { name, url: url.href, size, etag: pin, ifRange },
      { blob, lock: path.join(folder, `${key}.lock`), variable: URL_CACHE },
      { settings: this.#settings, onBytes, anew: true },
    );
    const text = JSON.stringify(announced);
    await advisingRoom(URL_CACHE, () =>
      writeFileAtomically(note, (write) => write(new TextEncoder().encode(text))),
    );
    onBytes(size);
    return blob;
  }

  /** Whether a server has a file. */
  async exists(address: string): Promise<boolean> {
    const { offline, urlCache } = this.#settings;
    const url = webAddress(address);
    url.hash = '';
    if (offline)
      return (
        (await readNote(
          path.join(urlCache, url.host.replace(/[^\w.-]/g, '_'), `${digest(url.href)}.json`),
        )) !== undefined
      );
    try {
      await this.#look(url);
      return true;
    } catch (cause) {
      if (DetailFlowError.isInstance(cause) && cause.code === 'not-found') return false;
      throw cause;
    }
  }

  async #look(url: URL): Promise<Announced> {
    const name = shown(url.href);
    const answer = await this.#api.ask(url.href, name, { method: 'HEAD' });
    const { headers, ok } = answer.response;
    if (!ok) throw refusal(answer, name, this.#settings);
    const isPage =
      !/\.html?$/.test(url.pathname) && (headers.get('content-type') ?? '').startsWith('text/html');
    if (isPage) throw new DetailFlowError('not-found', 'there is a page, not a file', { file: name });
    const size = Number(headers.get('content-length') ?? Number.NaN);
    if (!Number.isSafeInteger(size) || size < 0)
      throw new DetailFlowError('network', 'the server does not say how large it is', { file: name });
    const etag = headers.get('etag') ?? undefined;
    const version = etag ?? headers.get('last-modified') ?? undefined;
    return {
      size,
      version: version && `${size} ${version}`,
      ifRange: etag?.startsWith('"') ? etag : undefined,
    };
  }
}

/**
 * The files below an address. A server does not say what lies in a folder, so `list` finds nothing; a bundle needs
 * none.
 * @param address ends with a slash, or is meant as if it did
 * @throws DetailFlowError `invalid-argument` for an address with a query or a hash, which are of one file
 */
export async function openUrlFolder(address: string, options: OpenHubOptions = {}): Promise<FileTree> {
  const root = webAddress(address);
  if (root.search !== '' || root.hash !== '') {
    throw new DetailFlowError(
      'invalid-argument',
      'is the address of a folder, which takes no "?" and no "#"; those are for a file of weights (.pt, .safetensors, ...)',
      { file: shown(root.origin + root.pathname) },
    );
  }
  if (!root.pathname.endsWith('/')) root.pathname += '/';
  const files = await UrlFiles.create(options);
  const below = belowAddress(root);
  return {
    name: nameOf(root),
    open: async (file) => openFile(await files.fetch(below(file))),
    exists: (file) => files.exists(below(file)),
    list: async () => [],
  };
}

/**
 * The folder around one file of a web server. The file is asked for by its address as it stands, with query and hash; the
 * others without. `list` finds it, and a `config.json` beside it.
 * @throws DetailFlowError `invalid-argument` for an address whose last part is no name of a file
 */
export async function openUrlFile(address: string, options: OpenHubOptions = {}): Promise<OneRemoteFile> {
  const url = webAddress(address);
  const root = new URL('.', url);
  const name = lastPart(url);
  const files = await UrlFiles.create(options);
  const below = belowAddress(root);
  const place = (file: string) => (file === name ? address : below(file));
  const exists = async (file: string) => {
    try {
      return await files.exists(place(file));
    } catch (cause) {
      // A server that shows one file need not say whether there are others.
      const isHidden = DetailFlowError.isInstance(cause) && cause.code === 'unauthorised' && file !== name;
      if (isHidden) return false;
      throw cause;
    }
  };
  const tree: FileTree = {
    name: nameOf(root),
    open: async (file) => openFile(await files.fetch(place(file))),
    exists,
    list: async (folder) => {
      if (folder !== '') return [];
      return (await exists('config.json')) && name !== 'config.json' ? ['config.json', name].sort() : [name];
    },
  };
  return { tree, name };
}

/** A file in the folder around it. */
export interface OneRemoteFile {
  readonly tree: FileTree;
  /** Its path in there. */
  readonly name: string;
}

const nameOf = (root: URL): string => root.href.replace(/\/$/, '');

const belowAddress = (root: URL) => (file: string) => {
  checkTreePath(nameOf(root), file);
  return new URL(file.split('/').map(encodeURIComponent).join('/'), root).href;
};

/** The last part of an address as the name of a file. */
function lastPart(url: URL): string {
  let name = '';
  try {
    name = decodeURIComponent(url.pathname.split('/').at(-1) ?? '');
  } catch {
    // said below
  }
  if (name === '' || name.includes('/'))
    throw new DetailFlowError('invalid-argument', 'does not end with the name of a file', {
      file: shown(url.origin + url.pathname),
    });
  checkTreePath(nameOf(new URL('.', url)), name);
  return name;
}

function webAddress(text: string): URL {
  if (typeof text !== 'string') {
    throw new DetailFlowError(
      'invalid-argument',
      `the address is ${describe(text)}; give hf:... or https://...`,
    );
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && (url.username !== '' || url.password !== '')) {
    throw new DetailFlowError(
      'invalid-argument',
      'an address with user or password is not asked; leave them out',
    );
  }
  if (url && /^https?:$/.test(url.protocol)) return url;
  throw new DetailFlowError(
    'invalid-argument',
    `${JSON.stringify(shown(text).slice(0, 200))} is no https: address`,
  );
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 40);

/** The last part of an address, as a name that every system takes. */
function fileName(url: URL): string {
  const last = url.pathname.split('/').at(-1) ?? '';
  return (
    last
      .replace(/[^\w.-]/g, '_')
      .replace(/^\.+/, '_')
      .slice(-100) || 'file'
  );
}

async function readNote(file: string): Promise<Announced | undefined> {
  try {
    const { size, version } = JSON.parse(await readFile(file, 'utf8'));
    return Number.isSafeInteger(size)
      ? { size, version: typeof version === 'string' ? version : undefined }
      : undefined;
  } catch {
    return undefined;
  }
}
