import type { JobSpec } from './job-spec';
import type { ShardRange } from './shard-range';
import type { ShardResult } from './shard-result';

/** How a worker computes shards of one kind of job. */
export interface ShardTask {
  /**
   * Gets ready for a job: opens its model and checks that it is the one that the job means. What it throws, the worker cannot do:
   * it leaves the job to others, and says why.
   */
  prepare(spec: JobSpec, options: { readonly signal: AbortSignal }): Promise<PreparedTask>;
}

/** A job that a worker is ready for. */
export interface PreparedTask {
  /** Kind of machine and device. */
  readonly machine: string;
  /**
   * What a shard gives. An error of code `config` says that what is here is not what the job means: it is left to others. Any other
   * is tried again twice, maybe elsewhere, before the shard counts as failed.
   */
  run(
    range: ShardRange,
    options: { readonly signal: AbortSignal },
  ): Promise<Pick<ShardResult, 'arrays' | 'notes'>>;
  /** Frees what was prepared. */
  close(): Promise<void>;
}
