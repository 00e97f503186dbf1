import { DetailFlowError } from '@detailflow/core';
import type { JobsOptions } from 'bullmq';
import { KEPT } from './keys';
import { parseRange, type ShardRange } from './shard-range';

/** What BullMQ carries for a shard. */
export interface ShardData {
  /** Digest of the job. */
  readonly job: string;
  readonly range: string;
}

/**
 * Checks what came out of the queue.
 * @throws DetailFlowError `format`
 */
export function parseShardData(data: unknown): { job: string; range: ShardRange } {
  const { job, range } = (data ?? {}) as Partial<Record<keyof ShardData, unknown>>;
  const parsed = typeof range === 'string' ? parseRange(range) : undefined;
  if (typeof job === 'string' && /^[0-9a-f]{64}$/.test(job) && parsed) return { job, range: parsed };
  throw new DetailFlowError('format', 'the queue holds a shard that no program of ours has put there');
}

/** How often a shard that fails is tried. */
const ATTEMPTS = 3;
/** How many workers a shard may take down with it before it counts as failed. */
export const MOST_CRASHES = 5;
/** Milliseconds: a worker that does not say for so long that it is at a shard has lost it. */
export const LOCK = 5000;
/**
 * Milliseconds between looks for shards that were lost: one of all workers looks, and it takes two of its looks. The worker that
 * dies may be the one whose turn it is, and then it is up to twice as long until another looks: a shard is given out again at most
 * `max(LOCK, 2 LOST) + 2 LOST` after its worker has died, ten seconds.
 */
export const LOST = LOCK / 2;

export const shardOptions: JobsOptions = {
  attempts: ATTEMPTS,
  backoff: { type: 'fixed', delay: 1000 },
  removeOnComplete: true,
  removeOnFail: { age: KEPT },
  stackTraceLimit: 1,
};
