import { isIP } from 'node:net';
import { DetailFlowError, describe } from '@detailflow/core';
import { Redis, type RedisOptions } from 'ioredis';
import { atMost, unlessAborted } from './pause';
import type { QueueAddress } from './queue-address';
import { queueError } from './queue-error';

/** Milliseconds for the first connection and its first answers, and between attempts after one was lost. */
const FIRST = 10_000;
const SILENT = `what listens there says nothing for ${FIRST / 1000} seconds; is it a Redis server, and rediss:// where it wants TLS?`;
const [SHORTEST, LONGEST] = [100, 2000];
/** Milliseconds after which a server that owes an answer is taken for lost. */
const OWED = 60_000;
/** Milliseconds for the last thing that a server is told. */
export const LAST_WORD = 2000;

export interface ConnectionOptions {
  /** A lost connection is tried again for so many milliseconds; default: for ever. */
  readonly patience?: number;
  /** Told when the connection is lost, and when it is back. */
  readonly onNotice?: (message: string) => void;
}

/**
 * A connection, and those that are made like it, which end when they are told to. That of ioredis does not where it waits to connect
 * again: it forgets the next attempt and says nothing, so who waits for its end, or for an answer, waits for ever.
 */
class EndingRedis extends Redis {
  override duplicate(options?: Partial<RedisOptions>): Redis {
    return new EndingRedis({ ...this.options, ...options, replyMapping: 'legacy' }); // the default, said for the types
  }

  override disconnect(reconnect = false): void {
    if (!reconnect && this.status === 'reconnecting') this.status = 'wait'; // from which it ends at once
    super.disconnect(reconnect);
  }
}

/**
 * Connects to Redis. The first attempt must succeed; later ones are repeated, while commands wait.
 * @throws DetailFlowError `network`, `unauthorised`, `invalid-argument`
 */
async function connect(
  address: QueueAddress,
  options: ConnectionOptions,
  signal?: AbortSignal,
): Promise<Redis> {
  const { patience = Number.POSITIVE_INFINITY, onNotice } = options;
  const { host, port, db, username, password, isEncrypted, name } = address;
  const redis = new EndingRedis({
    ...{ host, port, db, username, password },
    // A number is no name of a server: its certificate is compared with the host then.
    ...(isEncrypted && { tls: isIP(host) === 0 ? { servername: host } : {} }),
    lazyConnect: true,
    connectTimeout: FIRST,
    socketTimeout: OWED,
    maxRetriesPerRequest: null,
    retryStrategy: () => null,
  });
  let lost: number | undefined;
  let isTold = false;
  let last: unknown;
  redis.on('error', (error) => {
    last = error;
  });
  const first = async () => {
    await redis.connect();
    await redis.ping();
    if (db > 0) await redis.select(db);
  };
  const [late, time] = [new AbortController(), new DetailFlowError('network', SILENT, { file: name })];
  const timer = setTimeout(() => late.abort(time), FIRST);
  try {
    await unlessAborted(first(), AbortSignal.any([late.signal, ...(signal ? [signal] : [])]));
  } catch (error) {
    redis.disconnect();
    if (signal?.aborted) throw signal.reason;
    // What the server said tells more than that the connection is closed now.
    const isClosed = error instanceof Error && /Connection is closed/.test(error.message);
    throw queueError(address, isClosed ? (last ?? error) : error);
  } finally {
    clearTimeout(timer);
  }
  redis.options.retryStrategy = (times) => {
    lost ??= performance.now();
    return performance.now() - lost > patience ? null : Math.min(SHORTEST * times, LONGEST);
  };
  redis.on('close', () => {
    if (redis.status === 'end' || isTold) return;
    isTold = true;
    onNotice?.(`${name}: the connection is lost; trying again`);
  });
  redis.on('ready', () => {
    lost = undefined;
    if (!isTold) return;
    isTold = false;
    onNotice?.(`${name}: connected again`);
  });
  return redis;
}

/**
 * Connects as `connect` does, for a function of the public surface: what it is given is looked at first, and nothing is left open
 * when `signal` is aborted meanwhile.
 * @throws DetailFlowError as `connect`, and `invalid-argument` for what is no address or function; the signal's reason
 */
export async function connectUntil(
  address: QueueAddress,
  { signal, ...options }: ConnectionOptions & { readonly signal?: AbortSignal },
): Promise<Redis> {
  const wrong = (what: string, value: unknown, wanted: string) =>
    new DetailFlowError('invalid-argument', `${what} is ${describe(value)}; give ${wanted}`);
  const isAddress = typeof address === 'object' && typeof address?.host === 'string';
  if (!isAddress)
    throw wrong(
      'the address of the queue',
      typeof address === 'string' ? 'a text' : address,
      'what parseQueueAddress makes of it',
    );
  const { onNotice } = options;
  if (onNotice !== undefined && typeof onNotice !== 'function')
    throw wrong('onNotice', onNotice, 'a function');
  signal?.throwIfAborted();
  return connect(address, options, signal);
}

/** Closes a connection, also one that is lost, or whose server says nothing more. */
export async function disconnect(redis: Redis): Promise<void> {
  if (redis.status === 'ready') await atMost(LAST_WORD, redis.quit());
  redis.disconnect();
}
