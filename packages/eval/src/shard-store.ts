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

/** Values of many images, made some images at a time. */
export interface ShardJob {
  /** What the values are of: jobs of one name have the same values. */
  readonly name: string;
  readonly total: number;
  readonly columns: readonly Column[];
  /** Values of images first .. first + count - 1. */
  make(first: number, count: number): Promise<Shard['columns']>;
}

/** Where the values of images may be kept, so that a run that was cut off goes on where it was. */
export interface ShardStore {
  /** Values of images first .. first + count - 1: kept ones are read, others made (and kept). */
  shard(job: ShardJob, first: number, count: number): Promise<Shard['columns']>;
}

/** Images of a shard. */
export const SHARD = 1000;

/** Keeps nothing. */
export const noStore: ShardStore = { shard: ({ make }, first, count) => make(first, count) };

/** All shards of a job, in order. */
export async function* eachShard(store: ShardStore, job: ShardJob): AsyncGenerator<Shard> {
  for (let first = 0; first < job.total; first += SHARD) {
    const count = Math.min(SHARD, job.total - first);
    yield { first, count, columns: await store.shard(job, first, count) };
  }
}
