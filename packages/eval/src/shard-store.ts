/** One value, or a row of values, of every image. */
export interface Column {
  readonly name: string;
  /** Values of an image. */
  readonly width: number;
  /** float32 unless said. */
  readonly dtype?: 'f32' | 'u8';
}

/** Values of images first .. first + count - 1, by the names of the columns: [count, width] each. */
export interface Shard {
  readonly first: number;
  readonly count: number;
  readonly columns: Readonly<Record<string, Float32Array | Uint8Array>>;
}

/** What says which values are kept. */
export interface ShardIdentity {
  /** What the values are of: jobs of one name have the same values. */
  readonly name: string;
  readonly total: number;
}

/** Values of many images, made some images at a time. */
export interface ShardJob extends ShardIdentity {
  readonly columns: readonly Column[];
  /** Values of images first .. first + count - 1. */
  make(first: number, count: number): Promise<Shard['columns']>;
}

/** Where the values of images may be kept, so that a run that was cut off goes on where it was. */
export interface ShardStore {
  /** Values of images first .. first + count - 1: kept ones are read, others made (and kept). */
  shard(job: ShardJob, first: number, count: number): Promise<Shard['columns']>;
  /** Whether values are kept already. Missing where nothing is kept. */
  has?(job: ShardIdentity, first: number, count: number): Promise<boolean>;
}

/** Images of a shard. */
export const SHARD = 1000;

/** Keeps nothing. */
export const noStore: ShardStore = { shard: ({ make }, first, count) => make(first, count) };

/** Images that go through networks at a time, counted from the first of a shard. */
export const BATCH = 64;

/** All shards of a job, in order. */
export async function* eachShard(store: ShardStore, job: ShardJob): AsyncGenerator<Shard> {
  for (const { first, count } of parts(0, job.total, SHARD)) {
    yield { first, count, columns: await store.shard(job, first, count) };
  }
}

/** Consecutive parts of `count` images from `first` on. */
export function* parts(
  first: number,
  count: number,
  size: number,
): Generator<{ readonly first: number; readonly count: number }> {
  for (let at = 0; at < count; at += size) yield { first: first + at, count: Math.min(size, count - at) };
}

/** Images first .. first + count - 1 of those shards of a job that are not kept, batch by batch. */
export async function* missingBatches(
  store: ShardStore,
  job: ShardIdentity,
): AsyncGenerator<{ readonly first: number; readonly count: number }> {
  for (const { first, count } of parts(0, job.total, SHARD)) {
    if (!(await store.has?.(job, first, count))) yield* parts(first, count, BATCH);
  }
}
