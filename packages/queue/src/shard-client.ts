import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { connectUntil, disconnect } from './connection';
import { folderResults } from './folder-results';
import { JobRecords, type ResultsPlace } from './job-records';
import { canonicalJson, type JobSpec, jobDigest } from './job-spec';
import { PREFIX, QUEUE, shardId } from './keys';
import { pause, unlessAborted } from './pause';
import type { QueueAddress } from './queue-address';
import { queueError } from './queue-error';
import { redisResults } from './redis-results';
import { removeShards } from './remove-shards';
import { type ShardData, shardOptions } from './shard-data';
import { isRange, MOST_SHARDS, rangeName, type ShardRange } from './shard-range';
import type { ShardResult } from './shard-result';
import type { ShardResults } from './shard-results';

/** Which queue a client gives work to, and where results come from. */
export interface ShardClientOptions {
  readonly signal?: AbortSignal;
  /** Takes one-line notices: workers that refuse, a lost connection, shards that are given out again. */
  readonly onNotice?: (message: string) => void;
  /** A folder that all machines share, for results; default: they go through Redis. */
  readonly results?: string;
}

/** Milliseconds: between looks for a result, and for what may be wrong with it; without any worker; of a lost connection. */
const [LOOK, CHECK, LONELY, PATIENCE] = [50, 1000, 10_000, 600_000];
const AT_ONCE = 1000;
/** So often a shard may be missed before somebody is to look why. */
const ODD = 10;

/**
 * The side that wants results: gives shards out, and takes results in whatever order it asks for. Workers compute no shard whose
 * result is there already; a shard that the queue lost is given out again, and so is a job.
 */
export class ShardClient {
  readonly #redis: Redis;
  readonly #queue: Queue;
  readonly #address: QueueAddress;
  readonly #records: JobRecords;
  readonly #results: ShardResults;
  readonly #place: ResultsPlace;
  readonly #options: ShardClientOptions;
  readonly #machines = new Set<string>();
  readonly #told = new Set<string>();
  /** Jobs that are begun and not finished. */
  readonly #jobs = new Map<string, JobSpec>();
  /** Shards that are asked for and not taken in yet. */
  readonly #open = new Map<string, ShardRange>();
  /** Results that were taken out of a server without room before their turn. */
  readonly #early = new Map<string, ShardResult>();
  /** How often shards that are not taken in yet were missed. */
  readonly #missed = new Map<string, number>();
  #lonelySince: number | undefined;
  #repeated = 0;

  private constructor(redis: Redis, address: QueueAddress, options: ShardClientOptions) {
    this.#redis = redis;
    this.#address = address;
    this.#options = options;
    this.#queue = new Queue(QUEUE, { connection: redis, prefix: PREFIX });
    this.#queue.on('error', () => {}); // whoever asks is told
    this.#records = new JobRecords(redis, address.name);
    this.#place = options.results === undefined ? 'redis' : 'folder';
    this.#results =
      options.results === undefined ? redisResults(redis, address) : folderResults(options.results);
  }

  /** @throws DetailFlowError `network`, `unauthorised`, `invalid-argument` */
  static async open(address: QueueAddress, options: ShardClientOptions = {}): Promise<ShardClient> {
    checkOptions('ShardClient.open', options, { signal: true, onNotice: true, results: true });
    const { signal, onNotice } = options;
    if (options.results !== undefined) folderResults(options.results); // before there is a connection
    const redis = await connectUntil(address, { patience: PATIENCE, onNotice, signal });
    return new ShardClient(redis, address, options);
  }

  /** Kinds of machines that computed what was taken in. */
  get machines(): readonly string[] {
    return [...this.#machines].sort();
  }

  /** Digests of the jobs that were submitted here and are not finished: workers go on with them when this client ends. */
  get unfinished(): readonly string[] {
    return [...this.#jobs.keys()];
  }

  /** Shards that had to be given out again since neither they nor their results were there, or since their whole job was lost. */
  get repeated(): number {
    return this.#repeated;
  }

  /**
   * Begins a job, or joins it where it runs already: a shard that is in the queue is not put there twice, and one that failed or
   * was cancelled is tried anew.
   * @returns its digest
   * @throws DetailFlowError `limit`, `invalid-argument`, `config` and `io` of the results folder, `network`
   */
  async submit(spec: JobSpec, ranges: readonly ShardRange[]): Promise<string> {
    if (!Array.isArray(ranges)) {
      throw new DetailFlowError(
        'invalid-argument',
        `the shards are ${describe(ranges)}; give a list of ranges`,
      );
    }
    if (ranges.length > MOST_SHARDS) {
      throw new DetailFlowError('limit', `${ranges.length} shards are too many; the limit is ${MOST_SHARDS}`);
    }
    const wrong = ranges.map((range) => range ?? {}).find((range) => !isRange(range));
    if (wrong)
      throw new DetailFlowError('invalid-argument', `${wrong.first}, ${wrong.count} is no range of a shard`);
    const job = jobDigest(spec);
    if (typeof spec.title !== 'string') {
      throw new DetailFlowError(
        'invalid-argument',
        `the title of the job is ${describe(spec.title)}; give a text`,
      );
    }
    canonicalJson(spec.hints); // workers would refuse a job without them
    for (const range of ranges) this.#open.set(shardId(job, rangeName(range)), range);
    this.#jobs.set(job, spec);
    await this.#begin(job, spec, ranges);
    return job;
  }

  async #begin(job: string, spec: JobSpec, ranges: readonly ShardRange[]): Promise<void> {
    await this.#asking(this.#results.begin(job, spec));
    await this.#asking(this.#records.begin(job, spec, this.#place, ranges));
    await this.#asking(removeShards(this.#queue, job, ['failed']));
    for (let at = 0; at < ranges.length; at += AT_ONCE) {
      const some = ranges.slice(at, at + AT_ONCE);
      await this.#asking(this.#queue.addBulk(some.map((range) => this.#shard(job, spec.kind, range))));
    }
  }

  /** Of the shards asked for, how many are done. */
  async progress(job: string): Promise<{ readonly done: number; readonly asked: number }> {
    return this.#asking(this.#records.counts(job));
  }

  /**
   * Waits for the result of a shard. Call it in the order in which results are to be merged.
   * @throws DetailFlowError with the failure of the shard; `runtime` when the job is cancelled; `config` when every worker there
   *   refuses it, or another client has begun the job with another place for its results; `not-found` for a job that is not known
   *   and was not submitted here; what reading a result throws; the reason of the signal
   */
  async result(job: string, kind: string, range: ShardRange): Promise<ShardResult> {
    if (typeof job !== 'string' || typeof range !== 'object' || range === null || !isRange(range)) {
      throw new DetailFlowError(
        'invalid-argument',
        'a result is that of a job, by its digest, and of a range of it',
      );
    }
    let checked = performance.now();
    for (;;) {
      const id = shardId(job, rangeName(range));
      const found = this.#early.get(id) ?? (await this.#asking(this.#results.read(job, range)));
      if (found) {
        this.#open.delete(id);
        this.#missed.delete(id);
        this.#machines.add(found.machine);
        return found;
      }
      if (performance.now() - checked > CHECK) {
        await this.#check(job, kind, range);
        checked = performance.now();
      }
      await pause(LOOK, this.#options.signal);
    }
  }

  /** Results that are merged may go; they stay in a results folder. */
  release(job: string, ranges: readonly ShardRange[]): Promise<void> {
    for (const range of ranges) this.#early.delete(shardId(job, rangeName(range)));
    return this.#asking(this.#results.release(job, ranges));
  }

  /** All results of a job are merged. */
  async finish(job: string): Promise<void> {
    await this.#asking(this.#results.tidy(job));
    await this.#asking(this.#records.forget(job));
    this.#jobs.delete(job);
  }

  /** Takes the shards of a job that no worker is at out of the queue. @returns how many */
  async withdraw(job: string): Promise<number> {
    return this.#asking(removeShards(this.#queue, job));
  }

  /** Closes the connection; shards that are in the queue stay there. */
  async close(): Promise<void> {
    await this.#queue.close().catch(() => {});
    await disconnect(this.#redis);
  }

  #shard(job: string, kind: string, range: ShardRange) {
    const data: ShardData = { job, range: rangeName(range) };
    return { name: kind, data, opts: { ...shardOptions, jobId: shardId(job, data.range) } };
  }

  async #check(job: string, kind: string, range: ShardRange): Promise<void> {
    const state = await this.#asking(this.#records.state(job));
    if (state === null) await this.#beginAgain(job);
    if (state === 'cancelled') {
      throw new DetailFlowError(
        'runtime',
        `job ${job.slice(0, 12)} was cancelled; the same command begins it again`,
        {
          file: this.#address.name,
        },
      );
    }
    await this.#lookAtPlace(job);
    await this.#asking(this.#records.keep(job));
    await this.#lookAtWorkers(job);
    await this.#lookAtMemory(job);
    const id = shardId(job, rangeName(range));
    const shard = await this.#asking(this.#queue.getJob(id));
    const place = shard && (await this.#asking(shard.getState()));
    if (!shard || place === 'unknown') {
      if (await this.#asking(this.#results.read(job, range))) return; // it came meanwhile
      this.#repeated++;
      this.#notice(
        `shard ${rangeName(range)} of job ${job.slice(0, 12)} is not in the queue; it is given out again`,
      );
      const missed = (this.#missed.get(id) ?? 0) + 1;
      this.#missed.set(id, missed);
      if (missed === ODD) {
        this.#notice(
          `shard ${rangeName(range)} of job ${job.slice(0, 12)} was given out ${ODD} times, and no result of it is in ${this.#results.name}: ${this.#place === 'folder' ? 'is it the folder that the workers are given?' : 'does the server evict what it holds (maxmemory-policy)?'}`,
        );
      }
      await shard?.remove().catch(() => {}); // a rest of it would keep it from being put in again
      await this.#asking(this.#queue.addBulk([this.#shard(job, kind, range)]));
      return;
    }
    if (place !== 'failed') return;
    throw new DetailFlowError(
      'runtime',
      `shard ${rangeName(range)} of job ${job.slice(0, 12)} failed: ${String(shard.failedReason).slice(0, 1000)}; results so far are kept, workers go on with the others, and the same command tries it again`,
      { file: this.#address.name },
    );
  }

  /** The server has lost the job, or another client has finished it: workers compute no shard of a job that they know nothing of. */
  async #beginAgain(job: string): Promise<void> {
    const spec = this.#jobs.get(job);
    if (!spec) {
      throw new DetailFlowError(
        'not-found',
        `there is no job ${job.slice(0, 12)} any more; submit it again`,
        {
          file: this.#address.name,
        },
      );
    }
    const open = [...this.#open].filter(([id]) => id.startsWith(job) && !this.#early.has(id));
    this.#notice(
      `the queue does not know job ${job.slice(0, 12)} any more (its server lost data, or another command has finished it); what is missing is given out again`,
    );
    this.#repeated += open.length;
    await this.#begin(
      job,
      spec,
      open.map(([, range]) => range),
    );
  }

  /** There is one place for the results of a job: that of whoever began it last. */
  async #lookAtPlace(job: string): Promise<void> {
    const place = await this.#asking(this.#records.place(job));
    if (place === null || place === this.#place) return;
    throw new DetailFlowError(
      'config',
      `another command has begun job ${job.slice(0, 12)} with its results ${place === 'redis' ? 'in Redis' : 'in a folder'}; let it end, or give both the same place for results`,
      { file: this.#address.name },
    );
  }

  async #lookAtWorkers(job: string): Promise<void> {
    const workers = await this.#asking(this.#records.workers());
    const refusals = await this.#asking(this.#records.refusals(job));
    if (refusals.some(({ isWaiting }) => isWaiting)) await this.#makeRoom(job);
    for (const { worker, message, isWaiting } of refusals) {
      this.#notice(`worker ${worker} ${isWaiting ? 'waits' : 'refuses'}: ${message}`);
    }
    if (workers.length === 0) {
      this.#lonelySince ??= performance.now();
      if (performance.now() - this.#lonelySince < LONELY) return;
      this.#notice(`no worker is there; start some: detailflow worker --queue ${this.#address.name}`);
      return;
    }
    this.#lonelySince = undefined;
    const refusing = new Map(
      refusals.flatMap(({ worker, message, isWaiting }) => (isWaiting ? [] : [[worker, message] as const])),
    );
    if (!workers.every(({ worker }) => refusing.has(worker))) return;
    const message = refusing.get(workers[0].worker);
    await this.#asking(this.withdraw(job));
    throw new DetailFlowError('config', `every worker that is there refuses this job: ${message}`, {
      file: this.#address.name,
    });
  }

  /** Takes results out of the server before their turn, so that there is room for the one whose turn it is. */
  async #makeRoom(job: string): Promise<void> {
    if (this.#options.results !== undefined) return;
    for (const [id, range] of this.#open) {
      if (!id.startsWith(job) || this.#early.has(id)) continue;
      const found = await this.#asking(this.#results.read(job, range));
      if (!found) continue;
      this.#early.set(id, found);
      await this.#asking(this.#results.release(job, [range]));
    }
  }

  /** A server without memory takes no results; it has some again once results are merged, or another job's are. */
  async #lookAtMemory(job: string): Promise<void> {
    const said = await this.#asking(this.#redis.info('memory').catch(() => '')); // it may not be allowed
    const [used, most] = ['used_memory', 'maxmemory'].map((name) =>
      Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(said)?.[1] ?? 0),
    );
    if (most === 0 || used < 0.95 * most) return;
    await this.#makeRoom(job);
    this.#notice(
      `${this.#address.name} has no memory left for results (${used} of ${most} bytes): raise maxmemory, or use a results folder`,
    );
  }

  /** Says a thing once. */
  #notice(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#options.onNotice?.(message);
  }

  async #asking<T>(answer: Promise<T>): Promise<T> {
    try {
      return await unlessAborted(answer, this.#options.signal);
    } catch (error) {
      if (this.#options.signal?.aborted) throw error;
      throw queueError(this.#address, error);
    }
  }
}
