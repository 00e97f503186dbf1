import { bytesSource, DetailFlowError } from '@detailflow/core';
import type { Redis } from 'ioredis';
import { KEPT, resultKey } from './keys';
import type { QueueAddress } from './queue-address';
import { queueError } from './queue-error';
import { rangeName } from './shard-range';
import { decodeResult, encodeResult } from './shard-result';
import type { ShardResults } from './shard-results';

/** Bytes of a value in Redis. */
const MOST_BYTES = 2 ** 29;

/** Results as values in Redis, for machines without a folder in common. They are held in its memory until they are merged. */
export function redisResults(redis: Redis, address: QueueAddress): ShardResults {
  const asking = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await answer;
    } catch (error) {
      throw queueError(address, error);
    }
  };
  return {
    name: address.name,
    async begin() {},
    async read(job, range) {
      const bytes = await asking(redis.getBuffer(resultKey(job, rangeName(range))));
      if (bytes === null) return undefined;
      const name = `${address.name} ${resultKey(job, rangeName(range))}`;
      return decodeResult(bytesSource(bytes, name), job, range);
    },
    async write(job, range, result) {
      const bytes = encodeResult(job, range, result);
      if (bytes.length > MOST_BYTES) {
        throw new DetailFlowError(
          'limit',
          `a result has ${bytes.length} bytes, Redis takes ${MOST_BYTES}; keep results in a folder that all machines share`,
        );
      }
      await asking(
        redis.set(
          resultKey(job, rangeName(range)),
          Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
          'EX',
          KEPT,
        ),
      );
    },
    async tidy() {},
    async release(job, ranges) {
      if (ranges.length > 0)
        await asking(redis.unlink(ranges.map((range) => resultKey(job, rangeName(range)))));
    },
  };
}
