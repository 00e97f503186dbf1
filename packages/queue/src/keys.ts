/** BullMQ keeps the shards of all jobs as `detailflow:shards:*`; what is ours lies beside them. */
export const PREFIX = 'detailflow';
export const QUEUE = 'shards';

/** Names of all jobs, a set. */
export const JOBS = `${PREFIX}:jobs`;
/** Of a job: fields `spec`, `state`, `results`, `began`. */
export const jobKey = (job: string) => `${PREFIX}:job:${job}`;
/** Names of the shards that are asked for, and of those that are done: sets. */
export const askedKey = (job: string) => `${PREFIX}:job:${job}:asked`;
export const doneKey = (job: string) => `${PREFIX}:job:${job}:done`;
/** Workers that cannot do it: their names, and why. */
export const refusedKey = (job: string) => `${PREFIX}:job:${job}:refused`;
/** The bytes of a result. */
export const resultKey = (job: string, range: string) => `${PREFIX}:result:${job}:${range}`;
/** Names of workers, a set, and what each says of itself, which vanishes when it does not say it again. */
export const WORKERS = `${PREFIX}:workers`;
export const workerKey = (name: string) => `${PREFIX}:worker:${name}`;

/**
 * Seconds that results wait for whoever merges them, and that a job is remembered for after anybody last waited for it or did a
 * shard of it.
 */
export const KEPT = 7 * 24 * 3600;

/** The id that BullMQ knows a shard by: given out twice, it is one. */
export const shardId = (job: string, range: string) => `${job}.${range}`;
