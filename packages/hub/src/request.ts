import { DetailFlowError } from '@detailflow/core';
import type { HubSettings } from './hub-options';

const MOST_REDIRECTS = 6;

/** An answer that is not a redirect to follow, with the headers of the hops before it. */
export interface Answer {
  readonly response: Response;
  readonly url: string;
  /** Headers of all hops; a later hop wins. */
  header(name: string): string | undefined;
}

export interface RequestOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT';
  /** What is sent, made anew for every hop. */
  readonly body?: () => BodyInit;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Which redirects are followed: all (default), or only those that stay on the host. */
  readonly follow?: 'all' | 'same-host';
}

/**
 * One request, redirects followed by hand: the token goes to the hub's own host and to no other, whatever address a
 * server hands out.
 * @throws DetailFlowError `network`
 */
export async function request(
  settings: HubSettings,
  address: string,
  options: RequestOptions = {},
): Promise<Answer> {
  const { method = 'GET', follow = 'all', signal, body } = options;
  const { redirect } = settings;
  const home = new URL(settings.endpoint).origin;
  const hops: Headers[] = [];
  for (let url = new URL(address); hops.length <= MOST_REDIRECTS; ) {
    const isHome = url.origin === home;
    const authorization =
      settings.token && isHome ? { Authorization: `Bearer ${settings.token}` } : undefined;
    const response = await settings
      .fetch(url.href, {
        method,
        redirect,
        signal,
        credentials: 'omit',
        ...(body && { body: body(), duplex: 'half' as const }),
        headers: {
          ...(redirect === 'manual' && { 'Accept-Encoding': 'identity' }),
          ...options.headers,
          ...authorization,
        },
      })
      .catch((cause) => {
        signal?.throwIfAborted();
        throw new DetailFlowError('network', `cannot be reached (${reasonOf(cause)})`, {
          file: shown(url.href),
          cause,
        });
      });
    hops.push(response.headers);
    const header = (name: string) =>
      hops.reduce<string | undefined>((found, headers) => headers.get(name) ?? found, undefined);
    const location = response.headers.get('location');
    const answer = { response, url: url.href, header };
    if (response.status < 300 || response.status >= 400 || response.status === 304 || location === null)
      return answer;
    const next = target(location, url);
    if (follow === 'same-host' && next.origin !== url.origin) return answer;
    await response.body?.cancel();
    url = next;
  }
  throw new DetailFlowError('network', `redirects more than ${MOST_REDIRECTS} times`, {
    file: shown(address),
  });
}

function target(location: string, from: URL): URL {
  let next: URL | undefined;
  try {
    next = new URL(location, from);
  } catch {
    // said below
  }
  const isSafe = next?.protocol === 'https:' || (next?.protocol === 'http:' && from.protocol === 'http:');
  if (next && isSafe && next.username === '' && next.password === '') return next;
  throw new DetailFlowError('network', 'redirects to an address that is not followed', {
    file: shown(from.href),
  });
}

/** An address for messages: a signature in its query is nobody's business. */
export const shown = (url: string): string => url.replace(/\?.*$/s, '');

function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error ? (cause.cause ?? cause) : cause;
  const { code, message } = (inner ?? {}) as { code?: string; message?: string };
  return code ?? message ?? String(inner);
}

/**
 * What an answer that is no success means.
 * @param what the repository, revision or file that was asked for
 */
export function refusal(
  { response, header, url }: Answer,
  what: string,
  settings: HubSettings,
): DetailFlowError {
  const [code, said] = [header('x-error-code') ?? '', (header('x-error-message') ?? '').slice(0, 300)];
  const { status } = response;
  const details = { file: what };
  const note = said === '' ? '' : ` ("${said}")`;
  const hasToken = settings.token !== undefined;
  if (code === 'GatedRepo') {
    const advice = hasToken
      ? `ask for access at ${shown(url).replace(/\/(resolve|tree|revision|api)\/.*$/, '')}`
      : 'ask for access on its page, and set HF_TOKEN';
    return new DetailFlowError('gated', `its owner grants access on request${note}; ${advice}`, details);
  }
  if (code === 'RevisionNotFound' || code === 'EntryNotFound') {
    const thing = code === 'RevisionNotFound' ? 'revision' : 'file';
    return new DetailFlowError('not-found', `there is no such ${thing}${note}`, details);
  }
  if (code === 'RepoNotFound') {
    const advice = hasToken ? 'the token may lack the right to see it' : 'if it is private, set HF_TOKEN';
    return new DetailFlowError('not-found', `there is no such repository${note}; ${advice}`, details);
  }
  if (status === 401 || status === 403) {
    const advice = hasToken ? 'the token is wrong, or lacks the right' : 'set HF_TOKEN';
    return new DetailFlowError(
      'unauthorised',
      `access is refused (status ${status})${note}; ${advice}`,
      details,
    );
  }
  if (status === 404 || status === 410)
    return new DetailFlowError('not-found', `there is no such file (status ${status})${note}`, details);
  if (status === 429)
    return new DetailFlowError(
      'rate-limited',
      `the server takes no more requests for now${note}; try later, or set HF_TOKEN`,
      details,
    );
  return new DetailFlowError('network', `the server answers with status ${status}${note}`, details);
}
