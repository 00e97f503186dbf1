import { checkOptions, DetailFlowError } from '@detailflow/core';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { connectUntil, disconnect } from './connection';
import { type JobRecord, JobRecords, type WorkerRecord } from './job-records';
import { PREFIX, QUEUE } from './keys';
import { unlessAborted } from './pause';
import type { QueueAddress } from './queue-address';
import { queueError } from './queue-error';
import { removeShards } from './remove-shards';
import { shardOptions } from './shard-data';

/** A job as `status` shows it. */
export interface JobStatus extends Pick<JobRecord, 'job' | 'state' | 'asked' | 'done' | 'began'> {
  readonly kind: string;
  readonly title: string;
  readonly failed: number;
}

/** What `status` tells. */
export interface QueueStatus {
  readonly isPaused: boolean;
  /** Shards that wait for a worker, and that workers are at. */
  readonly waiting: number;
  readonly active: number;
  readonly jobs: readonly JobStatus[];
  readonly workers: readonly WorkerRecord[];
}

/** A shard that was tried as often as it may be, or took too many workers down. */
export interface FailedShard {
  readonly job: string;
  readonly range: string;
  readonly reason: string;
  readonly attempts: number;
}

/** Looks at a queue, and steers it. */
export class QueueControl {
  readonly #redis: Redis;
  readonly #queue: Queue;
  readonly #address: QueueAddress;
  readonly #records: JobRecords;
  readonly #signal?: AbortSignal;

  private constructor(redis: Redis, address: QueueAddress, signal?: AbortSignal) {
    this.#redis = redis;
    this.#address = address;
    this.#signal = signal;
    this.#queue = new Queue(QUEUE, { connection: redis, prefix: PREFIX });
    this.#queue.on('error', () => {}); // whoever asks is told
    this.#records = new JobRecords(redis, address.name);
  }

  /** @throws DetailFlowError `network`, `unauthorised`, `invalid-argument` */
  static async open(
    address: QueueAddress,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<QueueControl> {
    checkOptions('QueueControl.open', options, { signal: true });
    const redis = await connectUntil(address, { patience: 0, signal: options.signal });
    return new QueueControl(redis, address, options.signal);
  }

  /** All jobs, how far each is, and how many workers there are. */
  async status(): Promise<QueueStatus> {
    const failed = await this.failed();
    const jobs = await this.#asking(this.#records.all());
    const { waiting, delayed, active } = await this.#asking(
      this.#queue.getJobCounts('waiting', 'delayed', 'active'),
    );
    return {
      isPaused: await this.#asking(this.#queue.isPaused()),
      waiting: waiting + delayed,
      active,
      jobs: jobs.map(({ spec, job, state, asked, done, began }) => ({
        ...{ job, state, asked, done, began, kind: spec.kind, title: spec.title },
        failed: failed.filter((one) => one.job === job).length,
      })),
      workers: await this.#asking(this.#records.workers()),
    };
  }

  /** Workers finish what they are at, and take nothing new. */
  async pause(): Promise<void> {
    await this.#asking(this.#queue.pause());
  }

  /** Gives out shards again after `pause`. */
  async resume(): Promise<void> {
    await this.#asking(this.#queue.resume());
  }

  /**
   * Takes the shards of a job out of the queue, and has workers stop at those that they are at. Whoever waits for it is told. Results
   * so far stay (in Redis for seven days); the job is forgotten after a day.
   * @param name the digest of a job, or how it begins
   * @returns the digest, and how many shards were taken out
   * @throws DetailFlowError `not-found`, `invalid-argument` when several jobs begin so
   */
  async cancel(name: string): Promise<{ readonly job: string; readonly removed: number }> {
    const job = await this.#find(name);
    await this.#asking(this.#records.cancel(job));
    const removed = await this.#asking(removeShards(this.#queue, job)); // a worker stops at one that it has just taken
    return { job, removed };
  }

  /** Shards that were given up, and why. */
  async failed(): Promise<FailedShard[]> {
    const shards = await this.#asking(this.#queue.getFailed());
    return shards
      .filter((shard) => typeof shard?.data?.job === 'string')
      .map(({ data, failedReason, attemptsMade }) => ({
        job: String(data.job),
        range: String(data.range),
        reason: String(failedReason).slice(0, 1000),
        attempts: attemptsMade,
      }));
  }

  /** Puts failed shards back into the queue, of one job or of all. @returns how many */
  async retry(name?: string): Promise<number> {
    const job = name === undefined ? undefined : await this.#find(name);
    let count = 0;
    for (const shard of await this.#asking(this.#queue.getFailed())) {
      if (job !== undefined && shard?.data?.job !== job) continue;
      const { id: jobId, name: kind, data } = shard;
      await this.#asking(shard.remove()); // a new one has crashed no worker yet
      await this.#asking(this.#queue.add(kind, data, { ...shardOptions, jobId }));
      count++;
    }
    return count;
  }

  /** Ends the connection; jobs go on. */
  async close(): Promise<void> {
    await this.#queue.close().catch(() => {});
    await disconnect(this.#redis);
  }

  async #find(name: string): Promise<string> {
    if (!/^[0-9a-f]{4,64}$/.test(name)) {
      throw new DetailFlowError(
        'invalid-argument',
        'a job is named by at least four of its hexadecimal digits; see status',
      );
    }
    const jobs = (await this.#asking(this.#records.all())).map(({ job }) => job);
    const found = jobs.filter((job) => job.startsWith(name));
    if (found.length === 1) return found[0];
    const file = this.#address.name;
    if (found.length > 1) {
      throw new DetailFlowError(
        'invalid-argument',
        `${found.length} jobs begin with ${name}; give more digits`,
        { file },
      );
    }
    throw new DetailFlowError('not-found', `there is no job ${name}; see status`, { file });
  }

  async #asking<T>(answer: Promise<T>): Promise<T> {
    try {
      return await unlessAborted(answer, this.#signal);
    } catch (error) {
      if (this.#signal?.aborted) throw error;
      throw queueError(this.#address, error);
    }
  }
}
