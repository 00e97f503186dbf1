import { DetailFlowError } from '@detailflow/core';

/** Pieces first .. first + count - 1 of a job: what a worker computes at a time. */
export interface ShardRange {
  readonly first: number;
  readonly count: number;
}

/** Shards of a job. */
export const MOST_SHARDS = 200_000;
/** Pieces of a shard. */
const MOST_PIECES = 1_000_000;

/** `00000128-64`: names keep the order of shards. */
export const rangeName = ({ first, count }: ShardRange): string =>
  `${String(first).padStart(8, '0')}-${count}`;

/** The range that a name says. */
export function parseRange(name: string): ShardRange | undefined {
  const match = /^(\d{8,15})-(\d{1,7})$/.exec(name);
  if (!match) return undefined;
  const range = { first: Number(match[1]), count: Number(match[2]) };
  return isRange(range) && rangeName(range) === name ? range : undefined;
}

export const isRange = ({ first, count }: ShardRange): boolean =>
  Number.isSafeInteger(first) &&
  first >= 0 &&
  first < 1e15 &&
  Number.isSafeInteger(count) &&
  count >= 1 &&
  count <= MOST_PIECES;

/**
 * Cuts `total` pieces into shards of `size`; the last may be smaller.
 * @throws DetailFlowError `invalid-argument`, `limit` for more than 200,000 shards
 */
export function shardRanges(total: number, size: number): ShardRange[] {
  if (!Number.isSafeInteger(total) || total < 1 || !Number.isSafeInteger(size) || size < 1) {
    throw new DetailFlowError('invalid-argument', `${total} pieces cannot be cut into shards of ${size}`);
  }
  const shards = Math.ceil(total / size);
  if (shards > MOST_SHARDS) {
    throw new DetailFlowError(
      'limit',
      `${shards} shards are too many for one job; the limit is ${MOST_SHARDS}`,
    );
  }
  return Array.from({ length: shards }, (_, i) => ({
    first: i * size,
    count: Math.min(size, total - i * size),
  }));
}
