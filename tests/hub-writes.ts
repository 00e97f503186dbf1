import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** What the writing side needs of a hub that runs on this machine. */
interface Writable {
  readonly files: Map<string, { bytes: Buffer; isLarge: boolean }>;
  readonly branches: Set<string>;
  readonly endpoint: string;
  readonly contentEndpoint: string;
  repository: string;
  commit: string;
  exists: boolean;
}

/** What goes wrong with an upload. */
export interface UploadFault {
  readonly status?: number;
  /** Breaks the line after so many bytes. */
  readonly cutAfter?: number;
  /** Reads so many bytes, and then nothing more. */
  readonly stallAfter?: number;
}

/** A commit that was made. */
export interface MadeCommit {
  readonly summary: string;
  readonly description: string;
  readonly paths: readonly string[];
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The writing side of the hub, as its API is documented: making, asking how files are wanted, large files, commits. */
export class HubWrites {
  /** The only token that may write; any where undefined. */
  token?: string;
  /** Large files that have arrived, by their SHA-256. */
  readonly objects = new Map<string, Buffer>();
  readonly commits: MadeCommit[] = [];
  readonly made: { name: string; isPrivate: boolean }[] = [];
  /** Whether the repository is seen by its owner only; made as asked unless it ignores that. */
  isPrivate = false;
  ignoresPrivate = false;
  /** Paths that the repository's .gitignore names. */
  ignored: (path: string) => boolean = () => false;
  /** Files of this size and more are large. */
  largeFrom = 1000;
  /** Bytes of a part where large files are sent in parts. */
  chunkSize?: number;
  /** For the n-th upload. */
  uploadFault: (n: number) => UploadFault | undefined = () => undefined;
  /** Forgets to answer the n-th commit, which was made. */
  losesAnswer: (n: number) => boolean = () => false;
  uploads = 0;
  readonly #signed = new Map<string, { oid: string; part: number }>();
  readonly #parts = new Map<string, Map<number, Buffer>>();
  #serial = 0;

  constructor(private readonly hub: Writable) {}

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = decodeURIComponent(new URL(request.url!, this.hub.endpoint).pathname);
    const body = await bodyOf(request);
    const send = (status: number, value: unknown, headers: Record<string, string> = {}) =>
      void response.writeHead(status, headers).end(JSON.stringify(value));
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`)
      return send(403, { error: 'You don’t have the rights' }, { 'x-error-message': 'no rights to write' });
    const { repository } = this.hub;
    if (url === '/api/repos/create') return this.#create(JSON.parse(body.toString()), send);
    const lfs = `/${repository}.git/info/lfs/`;
    if (url === `${lfs}objects/batch`) return send(200, this.#batch(JSON.parse(body.toString())));
    if (url === `${lfs}verify`) {
      const { oid, size } = JSON.parse(body.toString());
      return send(this.objects.get(oid)?.length === size ? 200 : 422, {});
    }
    if (url.startsWith(`${lfs}complete/`)) {
      const { oid, parts } = JSON.parse(body.toString()) as {
        oid: string;
        parts: { partNumber: number; etag: string }[];
      };
      const there = this.#parts.get(oid) ?? new Map<number, Buffer>();
      const isRight = parts.every(
        ({ partNumber, etag }) => etag === etagOf(there.get(partNumber) ?? Buffer.of()),
      );
      const whole = Buffer.concat(parts.map(({ partNumber }) => there.get(partNumber) ?? Buffer.of()));
      if (!isRight || sha256(whole) !== oid) return send(400, { error: 'parts do not make the file' });
      this.objects.set(oid, whole);
      return send(200, {});
    }
    const api = `/api/models/${repository}/`;
    if (!this.hub.exists || !url.startsWith(api)) return send(404, {}, { 'x-error-code': 'RepoNotFound' });
    const [, action, branch] = /^(preupload|commit|branch)\/(.+)$/.exec(url.slice(api.length)) ?? [];
    if (action === 'branch') {
      if (this.hub.branches.has(branch)) return send(409, { error: 'exists' });
      this.hub.branches.add(branch);
      return send(200, {});
    }
    if (!this.hub.branches.has(branch)) return send(404, {}, { 'x-error-code': 'RevisionNotFound' });
    if (action === 'preupload') return send(200, { files: this.#modes(JSON.parse(body.toString())) });
    if (request.headers['content-type'] !== 'application/x-ndjson') return send(400, { error: 'no lines' });
    return this.#commit(body.toString(), send, response);
  }

  /** Bytes of a large file, or of a part of one, on the host of large files. */
  async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.uploadFault(this.uploads++) ?? {};
    const signature = new URL(request.url!, this.hub.contentEndpoint).searchParams.get('signature') ?? '';
    const target = this.#signed.get(signature);
    this.#signed.delete(signature); // good for one request
    const refuse = (status: number) => void response.writeHead(status, { Connection: 'close' }).end();
    if (!target || request.headers.authorization !== undefined) return refuse(403);
    if (fault.status !== undefined) return refuse(fault.status);
    const stop = fault.cutAfter ?? fault.stallAfter;
    const body = await bodyOf(request, stop).catch(() => undefined);
    if (stop !== undefined) {
      if (fault.cutAfter !== undefined) request.socket.destroy();
      return;
    }
    // Such hosts take no content of unknown length, and none that is empty.
    if (body === undefined || Number(request.headers['content-length']) !== body.length || body.length === 0)
      return refuse(411);
    const { oid, part } = target;
    if (part === 0) {
      if (sha256(body) !== oid) return refuse(400);
      this.objects.set(oid, body);
    } else {
      const parts = this.#parts.get(oid) ?? new Map<number, Buffer>();
      this.#parts.set(oid, parts.set(part, body));
    }
    response.writeHead(200, { ETag: etagOf(body) }).end();
  }

  #create(
    { name, organization, private: isPrivate }: { name: string; organization: string; private: boolean },
    send: (status: number, value: unknown) => void,
  ): void {
    const repository = `${organization}/${name}`;
    if (this.hub.exists && repository === this.hub.repository) {
      send(409, { error: 'You already created it' });
      return;
    }
    Object.assign(this.hub, { repository, exists: true });
    this.isPrivate = isPrivate && !this.ignoresPrivate;
    this.made.push({ name: repository, isPrivate });
    send(200, { url: `${this.hub.endpoint}/${repository}` });
  }

  #modes({ files }: { files: { path: string; size: number; sample: string }[] }) {
    return files.map(({ path, size, sample }) => ({
      ...{ path, shouldIgnore: this.ignored(path) },
      uploadMode:
        size >= this.largeFrom || path.startsWith('empty') || Buffer.from(sample, 'base64').includes(0)
          ? 'lfs'
          : 'regular',
    }));
  }

  #batch({ objects }: { objects: { oid: string; size: number }[] }) {
    const { endpoint, repository, contentEndpoint } = this.hub;
    const sign = (oid: string, part: number) => {
      const signature = `u${this.#serial++}`;
      this.#signed.set(signature, { oid, part });
      return `${contentEndpoint}/upload/${oid}?signature=${signature}`;
    };
    const { chunkSize } = this;
    const upload = (oid: string, size: number) => {
      if (chunkSize === undefined || size <= chunkSize) return { href: sign(oid, 0) };
      const count = Math.ceil(size / chunkSize);
      const parts = Array.from({ length: count }, (_, i) => [
        String(i + 1).padStart(5, '0'),
        sign(oid, i + 1),
      ]);
      return {
        href: `${endpoint}/${repository}.git/info/lfs/complete/${oid}`,
        header: { chunk_size: String(chunkSize), ...Object.fromEntries(parts) },
      };
    };
    return {
      transfer: chunkSize === undefined ? 'basic' : 'multipart',
      objects: objects.map(({ oid, size }) => ({
        ...{ oid, size },
        ...(!this.objects.has(oid) && {
          actions: {
            upload: upload(oid, size),
            verify: { href: `${endpoint}/${repository}.git/info/lfs/verify`, header: { 'x-verify': 'yes' } },
          },
        }),
      })),
    };
  }

  #commit(text: string, send: (status: number, value: unknown) => void, response: ServerResponse): void {
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const [{ value: header }, ...operations] = lines;
    if (header.parentCommit !== undefined && header.parentCommit !== this.hub.commit) {
      send(412, { error: 'the branch has moved' });
      return;
    }
    for (const { key, value } of operations) {
      const bytes = key === 'lfsFile' ? this.objects.get(value.oid) : Buffer.from(value.content, 'base64');
      if (!bytes || (key === 'lfsFile' && bytes.length !== value.size)) {
        send(400, { error: value.path });
        return;
      }
      this.hub.files.set(value.path, { bytes, isLarge: key === 'lfsFile' });
    }
    this.hub.commit = randomBytes(20).toString('hex');
    this.commits.push({ ...header, paths: operations.map(({ value }) => value.path) });
    const { endpoint, repository, commit } = this.hub;
    const commitUrl = `${endpoint}/${repository}/commit/${commit}`;
    if (this.losesAnswer(this.commits.length - 1)) response.destroy();
    else send(200, { success: true, commitOid: this.hub.commit, commitUrl });
  }
}

const etagOf = (bytes: Uint8Array) => `"${createHash('md5').update(bytes).digest('hex')}"`;

/** @param stop reads no more than so many bytes */
async function bodyOf(request: IncomingMessage, stop?: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let seen = 0;
  if (stop === 0) return Buffer.of();
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    parts.push(part);
    seen += part.length;
    if (stop !== undefined && seen >= stop) break;
  }
  return Buffer.concat(parts);
}
