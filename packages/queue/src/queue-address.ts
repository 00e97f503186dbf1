import { DetailFlowError, describe } from '@detailflow/core';

/** Where a queue is. */
export interface QueueAddress {
  /** As messages name it: without user and password. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly db: number;
  readonly isEncrypted: boolean;
  readonly username?: string;
  readonly password?: string;
}

const MOST_DATABASES = 65_535;

/**
 * Reads `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for an encrypted connection. No message quotes the
 * text, since it may hold a password.
 * @param password where the text has none
 * @throws DetailFlowError `invalid-argument`
 */
export function parseQueueAddress(text: string, password?: string): QueueAddress {
  const fail = (problem: string) =>
    new DetailFlowError(
      'invalid-argument',
      `the address of the queue ${problem}; give redis://host:port/database, or rediss:// for an encrypted connection`,
    );
  if (typeof text !== 'string') throw fail(`is ${describe(text)}`);
  if (password !== undefined && typeof password !== 'string') {
    throw new DetailFlowError('invalid-argument', 'the password of the queue is no text');
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1].toLowerCase();
  if (scheme !== 'redis' && scheme !== 'rediss') throw fail('does not begin with redis://');
  let url: URL;
  let secrets: readonly (string | undefined)[];
  try {
    url = new URL(text);
    secrets = [url.username, url.password].map((part) => decodeURIComponent(part) || undefined);
  } catch {
    throw fail('cannot be read (in user and password, characters such as @ / % are written as %40 %2F %25)');
  }
  if (url.hostname === '') throw fail('names no host');
  if (url.search !== '' || url.hash !== '') throw fail('ends with ? or #, which it must not have');
  const path = /^\/?(\d{0,5})$/.exec(url.pathname);
  if (!path || Number(path[1]) > MOST_DATABASES) throw fail('names a database that is no number');
  const port = url.port === '' ? 6379 : Number(url.port);
  if (port === 0) throw fail('has port 0');
  const db = Number(path[1]);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    name: `${scheme}://${url.hostname}:${port}${db > 0 ? `/${db}` : ''}`,
    ...{ host, port, db, isEncrypted: scheme === 'rediss' },
    username: secrets[0],
    password: secrets[1] ?? password,
  };
}
