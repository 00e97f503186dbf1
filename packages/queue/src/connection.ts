import { isIP } from 'node:net';
import { DetailFlowError, describe } from '@detailflow/core';
import { Redis, type RedisOptions } from 'ioredis';
import { unlessAborted } from './pause';
import type { QueueAddress } from './queue-address';
import { queueError } from './queue-error';

/** Milliseconds for the first connection, and between attempts after one was lost. */
const FIRST = 10_000;
const [SHORTEST, LONGEST] = [100, 2000];

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
async function connect(address: QueueAddress, options: ConnectionOptions = {}): Promise<Redis> {
  const { patience = Number.POSITIVE_INFINITY, onNotice } = options;
  const { host, port, db, username, password, isEncrypted, name } = address;
  const redis = new EndingRedis({
    ...{ host, port, db, username, password },
    // A number is no name of a server: its certificate is compared with the host then.
    ...(isEncrypted && { tls: isIP(host) === 0 ? { servername: host } : {} }),
    lazyConnect: true,
    connectTimeout: FIRST,
    maxRetriesPerRequest: null,
    retryStrategy: () => null,
  });
  let lost: number | undefined;
  let isTold = false;
  let last: unknown;
  redis.on('error', (error) => {
    last = error;
  });
  try {
    await redis.connect();
    await redis.ping();
    if (db > 0) await redis.select(db);
  } catch (error) {
    redis.disconnect();
    // What the server said tells more than that the connection is closed now.
    const isClosed = error instanceof Error && /Connection is closed/.test(error.message);
    throw queueError(address, isClosed ? (last ?? error) : error);
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
  const connecting = connect(address, options);
  try {
    return await unlessAborted(connecting, signal);
  } catch (error) {
    void connecting.then(disconnect, () => {}); // it may come yet
    throw error;
  }
}

/** Closes a connection, also one that is lost. */
export async function disconnect(redis: Redis): Promise<void> {
  if (redis.status === 'ready') await redis.quit().catch(() => {});
  redis.disconnect();
}
