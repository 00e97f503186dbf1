import { unsafePath } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { type HubAddress, hubAddressText, isCommit } from './address';
import type { HubSettings } from './hub-options';
import { type Answer, type RequestOptions, refusal, request, shown } from './request';
import { askedWait, mayPass, Passing, retrying } from './retry';

/** A file of a repository, as the hub announces it. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the content (64 hex digits), or git's SHA-1 of it as a blob (40); names the blob in the cache. */
  readonly etag: string;
}

const MOST_FILES = 100_000;
const MOST_ANSWER = 64 * 2 ** 20;
const ETAG = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** Questions to a hub about one repository. */
export class HubApi {
  constructor(
    readonly settings: HubSettings,
    readonly address: HubAddress,
  ) {}

  /** The repository for messages, or a file of it. */
  name(path = ''): string {
    return hubAddressText({ ...this.address, path });
  }

  /** The commit that the revision means now. */
  async commit(): Promise<string> {
    const { revision } = this.address;
    const { value } = await this.#json(
      `${this.#api()}/revision/${encodeURIComponent(revision)}`,
      this.name(),
    );
    const sha = (value as { sha?: unknown } | null)?.sha;
    if (typeof sha === 'string' && isCommit(sha)) return sha;
    throw new DetailFlowError('network', 'the hub names no commit for this revision', { file: this.name() });
  }

  /**
   * All files of a commit.
   * @throws DetailFlowError `format` for a path that would leave the folder; `limit` for more files than are taken
   */
  async files(commit: string): Promise<ReadonlyMap<string, HubFile>> {
    const files = new Map<string, HubFile>();
    const first = `${this.#api()}/tree/${commit}?recursive=true`;
    const seen = new Set<string>();
    for (let next: string | undefined = first; next !== undefined; ) {
      if (seen.has(next)) throw this.#odd('the listing goes round in circles');
      seen.add(next);
      const { value, answer } = await this.#json(next, this.name());
      if (!Array.isArray(value)) throw this.#odd('the listing is no list');
      for (const entry of value) {
        const file = this.#file(entry);
        if (file) files.set(file.path, file);
      }
      if (files.size > MOST_FILES || seen.size > MOST_FILES) {
        throw new DetailFlowError('limit', `lists more than ${MOST_FILES} files`, { file: this.name() });
      }
      next = this.#nextPage(answer);
    }
    return files;
  }

  /** What a file is, by HEAD: redirects to other hosts are not followed, since their headers speak of other things. */
  async head(commit: string, path: string): Promise<HubFile> {
    const what = this.name(path);
    const answer = await this.ask(this.fileAddress(commit, path), what, {
      method: 'HEAD',
      follow: 'same-host',
    });
    const { header } = answer;
    const etag = (header('x-linked-etag') ?? header('etag') ?? '')
      .replace(/^W\//, '')
      .replace(/^"(.*)"$/, '$1');
    if (!ETAG.test(etag)) {
      throw new DetailFlowError(
        'network',
        `the server's etag ${JSON.stringify(etag.slice(0, 80))} is no hash of the content, so the file could not be checked`,
        { file: what },
      );
    }
    const size = Number(header('x-linked-size') ?? header('content-length') ?? Number.NaN);
    if (!Number.isSafeInteger(size) || size < 0)
      throw new DetailFlowError('network', 'the server does not say how large it is', { file: what });
    const at = header('x-repo-commit');
    if (at !== undefined && at !== commit) {
      throw new DetailFlowError(
        'network',
        `the server answers for commit ${at.slice(0, 60)}, not ${commit}`,
        {
          file: what,
        },
      );
    }
    return { path, size, etag };
  }

  fileAddress(commit: string, path: string): string {
    const { type, repository } = this.address;
    const kind = type === 'dataset' ? 'datasets/' : '';
    const inside = path.split('/').map(encodeURIComponent).join('/');
    return `${this.settings.endpoint}/${kind}${repository}/resolve/${commit}/${inside}`;
  }

  /** A question with retries; anything but success or a redirect is an error. */
  ask(url: string, what: string, options: RequestOptions = {}): Promise<Answer> {
    return this.#asking(url, what, options, async (answer) => answer);
  }

  #asking<T>(
    url: string,
    what: string,
    options: RequestOptions,
    read: (answer: Answer) => Promise<T>,
  ): Promise<T> {
    const { settings } = this;
    return retrying(settings, async () => {
      const limit = AbortSignal.timeout(settings.metadataTimeout);
      const signal = settings.signal ? AbortSignal.any([settings.signal, limit]) : limit;
      try {
        const answer = await request(settings, url, { ...options, signal });
        const { status } = answer.response;
        if (status < 400) return await read(answer);
        await answer.response.body?.cancel();
        const error = refusal(answer, what, settings);
        throw mayPass(status) ? new Passing(error, askedWait(answer.header)) : error;
      } catch (cause) {
        settings.signal?.throwIfAborted();
        if (limit.aborted) {
          const seconds = settings.metadataTimeout / 1000;
          throw new Passing(
            new DetailFlowError('network', `no answer within ${seconds} s (${shown(url)})`, {
              file: what,
              cause,
            }),
          );
        }
        if (DetailFlowError.isInstance(cause) && cause.code === 'network') throw new Passing(cause);
        throw cause;
      }
    });
  }

  #json(url: string, what: string): Promise<{ value: unknown; answer: Answer }> {
    return this.#asking(url, what, {}, async (answer) => {
      const text = await readText(answer.response, what);
      try {
        return { value: JSON.parse(text) as unknown, answer };
      } catch (cause) {
        throw new DetailFlowError('network', 'the answer is no JSON; is it the address of a hub?', {
          file: what,
          cause,
        });
      }
    });
  }

  #api(): string {
    const { type, repository } = this.address;
    return `${this.settings.endpoint}/api/${type}s/${repository}`;
  }

  #file(entry: unknown): HubFile | undefined {
    const { type, path, size, oid, lfs } = (entry ?? {}) as Record<string, unknown>;
    if (type === 'directory') return undefined;
    if (typeof path !== 'string' || type !== 'file')
      throw this.#odd('the listing has an entry that is no file');
    const reason = unsafePath(path);
    if (reason !== undefined) {
      throw new DetailFlowError(
        'format',
        `the listing has the path ${JSON.stringify(path.slice(0, 200))}, which is refused: ${reason}`,
        { file: this.name() },
      );
    }
    const large = (lfs ?? undefined) as { oid?: unknown; size?: unknown } | undefined;
    const etag = String(large?.oid ?? oid).replace(/^sha256:/, '');
    const bytes = large?.size ?? size;
    const fits = typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0;
    if (!ETAG.test(etag) || !fits)
      throw this.#odd(`the listing gives no hash or size of ${JSON.stringify(path)}`);
    return { path, size: bytes, etag };
  }

  /** Mirrors leave the name of another host in it: its path counts, and goes to the hub that was asked. */
  #nextPage({ header, url }: Answer): string | undefined {
    const link = /<([^<>]+)>\s*;[^,]*\brel="?next"?/.exec(header('link') ?? '')?.[1];
    if (link === undefined) return undefined;
    if (!URL.canParse(link, url)) throw this.#odd('the listing goes on at what is no address');
    const { origin, pathname, search } = new URL(link, url);
    const home = new URL(this.settings.endpoint);
    const isAtHome = origin === home.origin || pathname.startsWith(home.pathname.replace(/\/?$/, '/'));
    return `${isAtHome ? home.origin : this.settings.endpoint}${pathname}${search}`;
  }

  #odd(message: string): DetailFlowError {
    return new DetailFlowError('format', message, { file: this.name() });
  }
}

async function readText(response: Response, what: string): Promise<string> {
  const decoder = new TextDecoder();
  let [text, size] = ['', 0];
  const reader = response.body?.getReader();
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      size += part.value.length;
      if (size > MOST_ANSWER) {
        await reader?.cancel();
        throw new DetailFlowError('limit', `the answer has more than ${MOST_ANSWER} bytes`, { file: what });
      }
      text += decoder.decode(part.value, { stream: true });
    }
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError('network', 'the answer broke off', { file: what, cause });
  }
  return text + decoder.decode();
}
