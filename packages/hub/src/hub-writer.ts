import { DetailFlowError } from '@detailflow/core';
import { type HubAddress, hubAddressText } from './address';
import type { HubSettings } from './hub-options';
import { type LocalFile, readStream, requireUnchanged } from './pushed-files';
import { type Answer, type RequestOptions, refusal, request, shown } from './request';
import { askedWait, mayPass, Passing, retrying } from './retry';

/** A file whose content is known by its hash. */
export interface HashedFile extends LocalFile {
  readonly sha256: string;
  /** The first bytes. */
  readonly sample: Uint8Array;
}

/** A file of a commit: large ones are there already, and named by their hash. */
export type CommitFile =
  | { readonly path: string; readonly content: Uint8Array }
  | { readonly path: string; readonly sha256: string; readonly size: number };

/** Answers of a question that changes something may take so many times as long as others. */
const PATIENCE = 6;
const MOST_ANSWER = 16 * 2 ** 20;
const LFS = 'application/vnd.git-lfs+json';
/** Files that are asked about at once. */
const ASKED = 256;
/** Parts of a large file: more than S3 takes are an error of the server. */
const MOST_PARTS = 10_000;

type Json = Readonly<Record<string, unknown>>;

/** What changes a repository of the hub. */
export class HubWriter {
  constructor(
    readonly settings: HubSettings,
    readonly address: HubAddress,
  ) {}

  /** The repository for messages, or a file of it. */
  name(path = ''): string {
    return hubAddressText({ ...this.address, path });
  }

  /** The commit that the branch is at, or what is missing: the repository, or the branch alone. */
  async head(): Promise<
    { readonly commit: string; readonly isPrivate: boolean } | 'no repository' | 'no branch'
  > {
    const url = `${this.#api()}/revision/${encodeURIComponent(this.address.revision)}`;
    const { answer, value } = await this.#ask(url, this.name(), {
      accepts: ({ header, response }) => response.status === 404 || header('x-error-code') === 'RepoNotFound',
    });
    if (answer.response.status >= 400)
      return answer.header('x-error-code') === 'RevisionNotFound' ? 'no branch' : 'no repository';
    const { sha, private: isPrivate } = value;
    if (typeof sha === 'string' && /^[0-9a-f]{40}$/.test(sha))
      return { commit: sha, isPrivate: isPrivate === true };
    throw this.#odd('the hub names no commit for this branch');
  }

  /** Makes the repository. @throws DetailFlowError `invalid-argument` when it is there */
  async create(isPrivate: boolean): Promise<void> {
    const { type, repository } = this.address;
    const [organization, name] = repository.split('/');
    const body = { name, organization, private: isPrivate, ...(type === 'dataset' && { type }) };
    const { answer } = await this.#ask(`${this.settings.endpoint}/api/repos/create`, this.name(), {
      ...{ json: body, accepts: ({ response }) => response.status === 409 },
    });
    if (answer.response.status === 409) throw this.exists();
  }

  exists(): DetailFlowError {
    return new DetailFlowError('invalid-argument', 'is there already: push without create (--create)', {
      file: this.name(),
    });
  }

  /** Makes the branch, from the main one. */
  async createBranch(): Promise<void> {
    const url = `${this.#api()}/branch/${encodeURIComponent(this.address.revision)}`;
    await this.#ask(url, this.name(), { json: {}, accepts: ({ response }) => response.status === 409 });
  }

  /**
   * How the hub wants each file: as it is in the commit, apart (large ones), or not at all.
   * @param options.gitIgnore what a .gitignore among them says
   */
  async modes(
    files: readonly HashedFile[],
    { gitIgnore }: { readonly gitIgnore?: string },
  ): Promise<ReadonlyMap<string, 'regular' | 'lfs' | 'ignored'>> {
    const modes = new Map<string, 'regular' | 'lfs' | 'ignored'>();
    for (let from = 0; from < files.length; from += ASKED) {
      const asked = files.slice(from, from + ASKED);
      const { value } = await this.#ask(`${this.#at('preupload')}`, this.name(), {
        json: {
          gitIgnore,
          files: asked.map(({ path, size, sample }) => ({
            ...{ path, size, sample: Buffer.from(sample).toString('base64') },
          })),
        },
      });
      const answers = Array.isArray(value.files) ? (value.files as Json[]) : [];
      for (const { path, uploadMode, shouldIgnore } of answers)
        modes.set(`${path}`, shouldIgnore === true ? 'ignored' : uploadMode === 'lfs' ? 'lfs' : 'regular');
      // The host of large files takes no empty ones.
      for (const { path, size } of asked)
        if (size === 0 && modes.get(path) === 'lfs') modes.set(path, 'regular');
      const missing = asked.find(({ path }) => !modes.has(path));
      if (missing) throw this.#odd(`the hub does not say how it wants ${JSON.stringify(missing.path)}`);
    }
    return modes;
  }

  /** Sends a large file, unless the hub has its content. The hub compares it with the hash. */
  async upload(file: HashedFile, onBytes: (done: number) => void): Promise<void> {
    const { sha256: oid, size } = file;
    const what = this.name(file.path);
    // An address may be too old by the time that a transfer begins anew, so it is asked for each time.
    await retrying(this.settings, async (gotFurther) => {
      onBytes(0);
      const { value } = await this.#ask(this.#lfs(), what, {
        json: {
          ...{ operation: 'upload', transfers: ['basic', 'multipart'], hash_algo: 'sha256' },
          ...{ objects: [{ oid, size }], ref: { name: this.address.revision } },
        },
        headers: { Accept: LFS, 'Content-Type': LFS },
      });
      const [object] = Array.isArray(value.objects) ? (value.objects as Json[]) : [];
      const refused = object?.error as { code?: unknown; message?: unknown } | undefined;
      if (!object || object.oid !== oid || refused) {
        throw new DetailFlowError(
          'network',
          `the hub does not take it: ${String(refused?.message ?? 'no answer for this file').slice(0, 300)}`,
          { file: what },
        );
      }
      const { upload, verify } = (object.actions ?? {}) as Record<string, Action | undefined>;
      if (upload) {
        const chunk = Number(upload.header?.chunk_size);
        if (Number.isSafeInteger(chunk) && chunk > 0)
          await this.#uploadParts(file, { upload, chunk, what }, onBytes, gotFurther);
        else
          await this.#put(
            file,
            { url: addressOf(upload, what), headers: upload.header ?? {}, what },
            onBytes,
          );
      }
      if (verify) {
        await this.#ask(addressOf(verify, what), what, {
          json: { oid, size },
          headers: { ...verify.header, Accept: LFS, 'Content-Type': LFS },
        });
      }
      onBytes(size);
    });
  }

  /**
   * Makes the commit.
   * @returns its hash; undefined when the branch is no longer at `parent`
   */
  async commit(
    files: readonly CommitFile[],
    { message, parent }: { readonly message: string; readonly parent?: string },
  ): Promise<string | undefined> {
    const [summary, ...rest] = message.split('\n');
    const line = (key: string, value: Json) => `${JSON.stringify({ key, value })}\n`;
    const lines = [
      line('header', {
        ...{ summary, description: rest.join('\n').trim() },
        ...(parent !== undefined && { parentCommit: parent }),
      }),
      ...files.map((file) =>
        'content' in file
          ? line('file', {
              ...{
                path: file.path,
                encoding: 'base64',
                content: Buffer.from(file.content).toString('base64'),
              },
            })
          : line('lfsFile', { path: file.path, algo: 'sha256', oid: file.sha256, size: file.size }),
      ),
    ];
    const { answer, value } = await this.#ask(this.#at('commit'), this.name(), {
      ...{ body: () => lines.join(''), headers: { 'Content-Type': 'application/x-ndjson' } },
      accepts: ({ response }) => [409, 412].includes(response.status),
    });
    if (answer.response.status >= 400) return undefined;
    const { commitOid } = value;
    if (typeof commitOid === 'string' && /^[0-9a-f]{40}$/.test(commitOid)) return commitOid;
    throw this.#odd('the hub names no commit');
  }

  async #uploadParts(
    file: HashedFile,
    { upload, chunk, what }: { upload: Action; chunk: number; what: string },
    onBytes: (done: number) => void,
    gotFurther: () => void,
  ): Promise<void> {
    const count = Math.ceil(file.size / chunk);
    if (count > MOST_PARTS) throw this.#odd(`the hub wants ${count} parts`);
    const byNumber = new Map(
      Object.entries(upload.header ?? {}).flatMap(([key, url]) =>
        /^\d+$/.test(key) ? [[Number(key), url] as const] : [],
      ),
    );
    const parts: { partNumber: number; etag: string }[] = [];
    for (let i = 0; i < count; i++) {
      const href = byNumber.get(i + 1);
      if (href === undefined) throw this.#odd(`the hub gives no address for part ${i + 1} of ${count}`);
      const range = { start: i * chunk, end: Math.min(file.size, (i + 1) * chunk) - 1 };
      const sent = (done: number) => onBytes(range.start + done);
      const answer = await this.#put(
        file,
        { url: addressOf({ href }, what), headers: {}, what, range },
        sent,
      );
      const etag = answer.header('etag');
      if (etag === undefined) throw this.#odd(`the server gives no ETag for part ${i + 1}`);
      parts.push({ partNumber: i + 1, etag });
      gotFurther();
    }
    await this.#ask(addressOf(upload, what), what, {
      json: { oid: file.sha256, parts },
      headers: { Accept: LFS, 'Content-Type': LFS },
    });
  }

  /** Sends a file, or a part of it. @throws Passing when it may go better another time */
  async #put(
    file: HashedFile,
    target: {
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
      readonly what: string;
      readonly range?: { readonly start: number; readonly end: number };
    },
    onBytes: (done: number) => void,
  ): Promise<Answer> {
    const { settings } = this;
    const { url, headers, what, range } = target;
    await requireUnchanged(file);
    const length = range ? range.end - range.start + 1 : file.size;
    const stall = new AbortController();
    let [sent, before] = [0, -1];
    const timer = setInterval(() => {
      // Once all is sent, the server has as long as for an answer.
      if (sent === before && sent < length) stall.abort();
      before = sent;
    }, settings.stallTimeout);
    const limit = AbortSignal.any([stall.signal, ...(settings.signal ? [settings.signal] : [])]);
    async function* content() {
      for await (const part of readStream(file.local, range)) {
        yield new Uint8Array(part);
        sent += part.length;
        onBytes(sent);
      }
    }
    try {
      const answer = await request(settings, url, {
        ...{ method: 'PUT', signal: limit },
        body: () => {
          sent = 0;
          return length === 0 ? '' : (content() as unknown as BodyInit);
        },
        headers: { ...headers, 'Content-Length': String(length), 'Content-Type': 'application/octet-stream' },
      });
      const { status } = answer.response;
      await answer.response.body?.cancel();
      if (status < 400) return answer;
      const error = new DetailFlowError('network', `the server answers with status ${status}`, {
        file: what,
      });
      // 403: the address was good for a while only.
      throw mayPass(status) || status === 403 ? new Passing(error, askedWait(answer.header)) : error;
    } catch (cause) {
      settings.signal?.throwIfAborted();
      if (stall.signal.aborted) {
        const message = `nothing could be sent in ${settings.stallTimeout / 1000} s`;
        throw new Passing(new DetailFlowError('network', message, { file: what, cause }));
      }
      await requireUnchanged(file);
      if (DetailFlowError.isInstance(cause) && cause.code === 'network') throw new Passing(cause);
      throw cause;
    } finally {
      clearInterval(timer);
    }
  }

  /** A question with retries. @param options.accepts which refusals are answers, too */
  #ask(
    url: string,
    what: string,
    options: Omit<RequestOptions, 'method' | 'signal' | 'follow'> & {
      readonly json?: unknown;
      readonly accepts?: (answer: Answer) => boolean;
    },
  ): Promise<{ readonly answer: Answer; readonly value: Json }> {
    const { settings } = this;
    const { json, accepts = () => false, ...given } = options;
    const body = json === undefined ? given.body : () => JSON.stringify(json);
    const seconds = (settings.metadataTimeout * (body ? PATIENCE : 1)) / 1000;
    return retrying(settings, async () => {
      const limit = AbortSignal.timeout(1000 * seconds);
      const signal = settings.signal ? AbortSignal.any([settings.signal, limit]) : limit;
      try {
        const answer = await request(settings, url, {
          ...{ ...given, body, method: body ? 'POST' : 'GET', signal },
          headers: { ...(json !== undefined && { 'Content-Type': 'application/json' }), ...given.headers },
        });
        const { status } = answer.response;
        const text = (await answer.response.text()).slice(0, MOST_ANSWER);
        if (status >= 400 && !accepts(answer)) {
          const error = refusal(answer, what, settings);
          throw mayPass(status) ? new Passing(error, askedWait(answer.header)) : error;
        }
        return { answer, value: parsed(text, what, status) };
      } catch (cause) {
        settings.signal?.throwIfAborted();
        if (limit.aborted) {
          const message = `no answer within ${seconds} s (${shown(url)})`;
          throw new Passing(new DetailFlowError('network', message, { file: what, cause }));
        }
        if (cause instanceof Passing) throw cause;
        const isNetwork = DetailFlowError.isInstance(cause) && cause.code === 'network';
        if (isNetwork) throw new Passing(cause);
        if (DetailFlowError.isInstance(cause)) throw cause;
        throw new Passing(new DetailFlowError('network', 'the answer broke off', { file: what, cause }));
      }
    });
  }

  #api(): string {
    const { type, repository } = this.address;
    return `${this.settings.endpoint}/api/${type}s/${repository}`;
  }

  #at(action: 'preupload' | 'commit'): string {
    return `${this.#api()}/${action}/${encodeURIComponent(this.address.revision)}`;
  }

  #lfs(): string {
    const { type, repository } = this.address;
    const kind = type === 'dataset' ? 'datasets/' : '';
    return `${this.settings.endpoint}/${kind}${repository}.git/info/lfs/objects/batch`;
  }

  #odd(message: string): DetailFlowError {
    return new DetailFlowError('network', message, { file: this.name() });
  }
}

/** Where and how something is sent, as git's protocol for large files says. */
interface Action {
  readonly href?: unknown;
  readonly header?: Readonly<Record<string, string>>;
}

/** @throws DetailFlowError `network` for an address that nothing is sent to */
function addressOf({ href }: Action, what: string): string {
  const url = typeof href === 'string' && URL.canParse(href) ? new URL(href) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.username === '') return url.href;
  throw new DetailFlowError('network', 'the hub gives an address that nothing is sent to', { file: what });
}

function parsed(text: string, what: string, status: number): Json {
  if (text === '' || status >= 400) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Json;
  } catch {
    // said below
  }
  throw new DetailFlowError('network', 'the answer is no JSON; is it the address of a hub?', { file: what });
}
