import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HubWrites } from './hub-writes';

/** A request that arrived. */
export interface Seen {
  readonly host: 'hub' | 'content';
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

/** What goes wrong with an answer that sends content. */
export interface ContentFault {
  /** Breaks the line after so many bytes of this answer. */
  readonly cutAfter?: number;
  /** Ends properly after so many bytes, in chunks, so that HTTP itself knows of nothing missing. */
  readonly endAfter?: number;
  /** Flips a bit of this byte of the file. */
  readonly flip?: number;
  /** Sends so many bytes, and then nothing more. */
  readonly stallAfter?: number;
  /** Sends a byte in so many milliseconds. */
  readonly drip?: number;
  /** Status with which content is refused, with headers. */
  readonly refuse?: readonly [status: number, headers?: Readonly<Record<string, string>>];
  /** Answers a range with the whole file. */
  readonly ignoreRange?: boolean;
  /** Content-Range in place of the right one. */
  readonly contentRange?: string;
  /** Bytes added to the file. */
  readonly extra?: number;
  /** Waits so many milliseconds before it answers. */
  readonly wait?: number;
}

/** What a question is answered with, in place of the right answer. */
export type HubFault = readonly [status: number, headers?: Readonly<Record<string, string>>, body?: string];

/** Pages of other hosts may ask. */
const CORS = new Headers({
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Headers': 'Authorization, Range',
  'Access-Control-Expose-Headers':
    '*, Content-Range, Link, RateLimit, Retry-After, X-Error-Code, X-Error-Message',
});

/** Two names, since Python takes ports of one name for one host. */
const HOSTS = { hub: '127.0.0.1', content: 'localhost' } as const;

/**
 * A hub on this machine that answers as the real one does, on two hosts: the hub itself, and the host of large files with
 * signed addresses that are good for one request. Faults are given by the test.
 */
export class StandInHub {
  readonly seen: Seen[] = [];
  readonly files = new Map<string, { bytes: Buffer; isLarge: boolean }>();
  repository = 'acme/tiny';
  commit = '0123456789abcdef0123456789abcdef01234567';
  /** A repository that was renamed: its old name. */
  oldName?: string;
  /** The only token that is let in. */
  token?: string;
  /** For the n-th answer with content (from 0) of a file. */
  contentFault: (path: string, n: number) => ContentFault | undefined = () => undefined;
  /** For a question, by its url; undefined for the right answer. */
  hubFault: (url: string, method: string) => HubFault | 'silence' | undefined = () => undefined;
  /** Entries put into the listing as they are. */
  listed: object[] = [];
  pageSize = 1000;
  /** Size that HEAD and the listing announce for a file, in place of its own. */
  announcedSize?: number;
  /** Host that links between pages of the listing name, as they do behind a mirror. */
  listedAt?: string;
  /** Where in its host the hub lies, such as `/mirror`. */
  prefix = '';
  /** ETag that the host of large files gives, which says nothing of their content; undefined for none. */
  contentEtag: string | undefined = `"${'f'.repeat(64)}"`;
  /** Pages and scripts that the hub serves as they are, by path. */
  readonly pages = new Map<string, readonly [type: string, text: string]>();
  /** Branches; all have the same files. */
  readonly branches = new Set(['main']);
  /** Whether the repository is there. */
  exists = true;
  /** What changes the repository. */
  readonly writes = new HubWrites(this);
  readonly #servers: Server[] = [];
  readonly #answers = new Map<string, number>();
  readonly #signed = new Set<string>();
  #serial = 0;

  async start(): Promise<this> {
    for (const host of ['hub', 'content'] as const) {
      const server = createServer((request, response) => {
        this.seen.push({ host, method: request.method!, url: request.url!, headers: request.headers });
        response.setHeaders(CORS);
        if (request.method === 'OPTIONS') return response.writeHead(204).end();
        const answer = host === 'hub' ? this.#hub(request, response) : this.#content(request, response);
        Promise.resolve(answer).catch(() => response.destroy());
      });
      this.#servers.push(server.listen(0, HOSTS[host]));
      await once(server, 'listening');
    }
    return this;
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      server.close();
    }
  }

  get endpoint(): string {
    return this.#address(0);
  }

  /** Of the host of large files. */
  get contentEndpoint(): string {
    return this.#address(1);
  }

  add(path: string, bytes: Uint8Array, { large = false } = {}): this {
    this.files.set(path, { bytes: Buffer.from(bytes), isLarge: large });
    return this;
  }

  etag(path: string): string {
    const { bytes, isLarge } = this.files.get(path)!;
    if (isLarge) return createHash('sha256').update(bytes).digest('hex');
    return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
  }

  /** How many answers with content of a file were begun. */
  transfers(path: string): number {
    return this.#answers.get(path) ?? 0;
  }

  #address(which: 0 | 1): string {
    const name = which === 0 ? HOSTS.hub : HOSTS.content;
    return `http://${name}:${(this.#servers[which].address() as AddressInfo).port}`;
  }

  #hub(request: IncomingMessage, response: ServerResponse): void | Promise<void> {
    const url = new URL(request.url!.slice(this.prefix.length), this.endpoint);
    const page = this.pages.get(url.pathname);
    if (page) {
      response.writeHead(200, { 'Content-Type': page[0] }).end(page[1]);
      return undefined;
    }
    const fault = this.hubFault(request.url!, request.method!);
    if (fault === 'silence') return undefined;
    if (fault) {
      response.writeHead(fault[0], fault[1]).end(fault[2]);
      return undefined;
    }
    const isSigned = url.searchParams.has('signature');
    if (this.token !== undefined && !isSigned && request.headers.authorization !== `Bearer ${this.token}`) {
      const headers = { 'x-error-code': 'RepoNotFound', 'x-error-message': 'Repository not found' };
      response.writeHead(401, headers).end();
      return undefined;
    }
    const plain = decodeURIComponent(url.pathname);
    if (this.oldName && plain.includes(`/${this.oldName}/`)) {
      const location = url.pathname.replace(this.oldName, this.repository) + url.search;
      response.writeHead(307, { Location: location }).end();
      return undefined;
    }
    if (request.method === 'POST') return this.writes.answer(request, response);
    if (this.exists && url.pathname.startsWith(`/api/models/${this.repository}/revision/`)) {
      if (![...this.branches, this.commit].includes(plain.split('/revision/')[1])) {
        response.writeHead(404, { 'x-error-code': 'RevisionNotFound' }).end();
        return undefined;
      }
      response.end(JSON.stringify({ id: this.repository, sha: this.commit, private: this.writes.isPrivate }));
      return undefined;
    }
    if (url.pathname === `/api/models/${this.repository}/tree/${this.commit}`)
      return this.#list(url, response);
    const small = `/api/resolve-cache/models/${this.repository}/${this.commit}/`;
    if (plain.startsWith(small)) {
      const path = plain.slice(small.length);
      const etag = `"${this.etag(path)}"`;
      return this.#send(request, response, path, { ETag: etag, 'x-repo-commit': this.commit });
    }
    for (const revision of [...this.branches, this.commit]) {
      const prefix = `/${this.repository}/resolve/${revision}/`;
      if (plain.startsWith(prefix)) return this.#resolve(plain.slice(prefix.length), response);
    }
    response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end();
    return undefined;
  }

  #resolve(path: string, response: ServerResponse): void {
    const file = this.files.get(path);
    if (!file) {
      response
        .writeHead(404, {
          ...{ 'x-error-code': 'EntryNotFound', 'x-error-message': 'Entry not found' },
          'x-repo-commit': this.commit,
        })
        .end();
      return;
    }
    const common = { 'x-repo-commit': this.commit, 'accept-ranges': 'bytes' };
    if (!file.isLarge) {
      const inside = path.split('/').map(encodeURIComponent).join('/');
      const location = `/api/resolve-cache/models/${this.repository}/${this.commit}/${inside}?download=true`;
      response.writeHead(307, { ...common, Location: location }).end();
      return;
    }
    const signature = `s${this.#serial++}`;
    this.#signed.add(signature);
    response
      .writeHead(302, {
        ...common,
        'x-linked-etag': `"${this.etag(path)}"`,
        'x-linked-size': String(this.announcedSize ?? file.bytes.length),
        'x-xet-hash': 'f'.repeat(64),
        Location: `${this.#address(1)}/${encodeURIComponent(path)}?signature=${signature}`,
      })
      .end();
  }

  #list(url: URL, response: ServerResponse): void {
    const entries = [...this.files].map(([path, { bytes, isLarge }]) => {
      const size = this.announcedSize ?? bytes.length;
      const pointer = { type: 'file', path, size, oid: isLarge ? 'a'.repeat(40) : this.etag(path) };
      return isLarge ? { ...pointer, lfs: { oid: this.etag(path), size, pointerSize: 134 } } : pointer;
    });
    const all = [
      { type: 'directory', path: 'folder', oid: 'b'.repeat(40), size: 0 },
      ...entries,
      ...this.listed,
    ];
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const next = from + this.pageSize;
    if (next < all.length) {
      url.searchParams.set('cursor', String(next));
      const address = `${this.listedAt ?? url.origin}${url.pathname}${url.search}`;
      response.setHeader('Link', `<${address}>; rel="next"`);
    }
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(all.slice(from, next)));
  }

  #content(request: IncomingMessage, response: ServerResponse): void | Promise<void> {
    if (request.method === 'PUT') return this.writes.take(request, response);
    const url = new URL(request.url!, this.endpoint);
    const isGood = this.#signed.delete(url.searchParams.get('signature') ?? '');
    if (!isGood || request.headers.authorization !== undefined) {
      response.writeHead(403).end('expired');
      return undefined;
    }
    const path = decodeURIComponent(url.pathname.slice(1));
    const { contentEtag } = this;
    return this.#send(request, response, path, contentEtag === undefined ? {} : { ETag: contentEtag });
  }

  async #send(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    headers: Record<string, string>,
  ): Promise<void> {
    const original = this.files.get(path)!.bytes;
    if (request.method === 'HEAD') {
      response
        .writeHead(200, { ...headers, 'Content-Length': String(this.announcedSize ?? original.length) })
        .end();
      return;
    }
    const n = this.transfers(path);
    this.#answers.set(path, n + 1);
    const fault = this.contentFault(path, n) ?? {};
    if (fault.wait) await new Promise((resolve) => setTimeout(resolve, fault.wait));
    if (fault.refuse) {
      response.writeHead(...([fault.refuse[0], fault.refuse[1] ?? {}] as const)).end();
      return;
    }
    const bytes = Buffer.concat([original, Buffer.alloc(fault.extra ?? 0)]);
    if (fault.flip !== undefined) bytes[fault.flip] ^= 1;
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const isPart = range !== null && !fault.ignoreRange;
    const from = isPart ? Number(range[1]) : 0;
    const to = isPart && range[2] !== '' ? Number(range[2]) + 1 : bytes.length;
    if (from >= bytes.length && bytes.length > 0) {
      response.writeHead(416, { 'Content-Range': `bytes */${bytes.length}` }).end();
      return;
    }
    const part = bytes.subarray(from, to);
    if (isPart) headers['Content-Range'] = fault.contentRange ?? `bytes ${from}-${to - 1}/${bytes.length}`;
    if (fault.endAfter === undefined && fault.extra === undefined)
      headers['Content-Length'] = String(part.length);
    response.writeHead(isPart ? 206 : 200, headers);
    if (fault.drip !== undefined) {
      for (const byte of part) {
        if (response.destroyed) return;
        response.write(Buffer.of(byte));
        await new Promise((resolve) => setTimeout(resolve, fault.drip));
      }
    }
    const stop = fault.cutAfter ?? fault.stallAfter ?? fault.endAfter;
    if (stop === undefined || stop >= part.length) response.end(part);
    else if (fault.endAfter !== undefined) response.end(part.subarray(0, stop));
    else {
      await new Promise<void>((resolve) => response.write(part.subarray(0, stop), () => resolve()));
      if (fault.cutAfter === undefined) return;
      await new Promise((resolve) => setTimeout(resolve, 20)); // so that the bytes arrive before the line breaks
      response.destroy();
    }
  }
}
