import type { JobSpec } from './job-spec';
import type { ShardRange } from './shard-range';
import type { ShardResult } from './shard-result';

/** Where results of shards are kept. Writing a shard again is harmless: it has the same content. */
export interface ShardResults {
  /** For messages. */
  readonly name: string;
  /** Makes a place for a job. @throws DetailFlowError `config` where another one is, `io` */
  begin(job: string, spec: JobSpec): Promise<void>;
  /** A result that is there. @throws DetailFlowError as `decodeResult` */
  read(job: string, range: ShardRange): Promise<ShardResult | undefined>;
  /** All of it or nothing. @throws DetailFlowError `io` (disk full, no rights), `limit` */
  write(job: string, range: ShardRange, result: ShardResult): Promise<void>;
  /** Called for results that are merged: they may go. */
  release(job: string, ranges: readonly ShardRange[]): Promise<void>;
  /** Called when a job is merged: takes away what workers that were killed left half-written. */
  tidy(job: string): Promise<void>;
}
