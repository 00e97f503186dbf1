import { DetailFlowError } from '@detailflow/core';
import type { Redis } from 'ioredis';
import { type JobSpec, parseSpec } from './job-spec';
import { askedKey, doneKey, JOBS, jobKey, KEPT, refusedKey, WORKERS, workerKey } from './keys';
import { rangeName, type ShardRange } from './shard-range';

/** Where a job is: `cancelled` ones give out no more shards. */
export type JobState = 'running' | 'cancelled' | 'finished';

/** Where the results of a job go: into Redis, or into the folder that every worker is given. */
export type ResultsPlace = 'redis' | 'folder';

/** What a queue knows of a job. */
export interface JobRecord {
  readonly job: string;
  readonly spec: JobSpec;
  readonly state: JobState;
  readonly results: ResultsPlace;
  /** ISO 8601. */
  readonly began: string;
  /** Shards that are asked for, and how many of them are done. */
  readonly asked: number;
  readonly done: number;
}

/** Why a worker does not take part in a job. */
export interface Refusal {
  readonly worker: string;
  readonly message: string;
  /** It only waits, until there is room for results again. */
  readonly isWaiting: boolean;
}

/** What a worker says of itself. */
export interface WorkerRecord {
  readonly worker: string;
  readonly machine: string;
  /** The shard it is at. */
  readonly at?: string;
  readonly done: number;
}

/** Seconds that a worker counts as there after it said so. */
const PRESENCE = 15;
/** Seconds that a cancelled job is shown, and whoever waits for it can find out. */
const SHOWN = 24 * 3600;
const AT_ONCE = 1000;

const keysOf = (job: string) => [jobKey(job), askedKey(job), doneKey(job), refusedKey(job)] as const;

/** Of a job that was forgotten meanwhile nothing is to be written: nobody would take it away. */
const MARK_DONE = `
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[2])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[3]) end`;

/** It may have been begun anew since its record was looked for. */
const DROP_NAME = `if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end`;

export class JobRecords {
  readonly #redis: Redis;
  readonly #place: string;

  constructor(redis: Redis, place: string) {
    this.#redis = redis;
    this.#place = place;
  }

  /** The name comes last here and goes first in `forget`: beside each other they leave no record that has no name. */
  async begin(
    job: string,
    spec: JobSpec,
    results: ResultsPlace,
    ranges: readonly ShardRange[],
  ): Promise<void> {
    const redis = this.#redis;
    await redis.hset(jobKey(job), {
      spec: JSON.stringify(spec),
      ...{ state: 'running', results, began: new Date().toISOString() },
    });
    await redis.del(askedKey(job), doneKey(job), refusedKey(job));
    for (let at = 0; at < ranges.length; at += AT_ONCE) {
      await redis.sadd(askedKey(job), ranges.slice(at, at + AT_ONCE).map(rangeName));
    }
    await this.keep(job);
    await redis.sadd(JOBS, job);
  }

  /** Somebody waits for it: it is not to be forgotten. */
  async keep(job: string, seconds = KEPT): Promise<void> {
    await Promise.all(keysOf(job).map((key) => this.#redis.expire(key, seconds)));
  }

  /** @throws DetailFlowError `format` when it is not what its name says */
  async read(job: string): Promise<Omit<JobRecord, 'asked' | 'done'> | undefined> {
    const { spec, state, results, began = '' } = await this.#redis.hgetall(jobKey(job));
    if (spec === undefined) return undefined;
    if (!['running', 'cancelled', 'finished'].includes(state) || !['redis', 'folder'].includes(results)) {
      throw new DetailFlowError('format', 'has an unknown state', { file: this.#place, entry: jobKey(job) });
    }
    return {
      ...{ job, began, spec: parseSpec(spec, job, this.#place) },
      ...{ state: state as JobState, results: results as ResultsPlace },
    };
  }

  async state(job: string): Promise<string | null> {
    return this.#redis.hget(jobKey(job), 'state');
  }

  /** Where its results go; null when it is not known. */
  async place(job: string): Promise<string | null> {
    return this.#redis.hget(jobKey(job), 'results');
  }

  /** The record stays for a day, so that whoever waits finds out. */
  async cancel(job: string): Promise<void> {
    await this.#redis.hset(jobKey(job), { state: 'cancelled' });
    await this.keep(job, SHOWN);
  }

  async counts(job: string): Promise<{ asked: number; done: number }> {
    const [asked, both] = await Promise.all([
      this.#redis.scard(askedKey(job)),
      this.#redis.sinter(askedKey(job), doneKey(job)),
    ]);
    return { asked, done: both.length };
  }

  async all(): Promise<JobRecord[]> {
    const found: JobRecord[] = [];
    for (const job of await this.#redis.smembers(JOBS)) {
      const record = await this.read(job);
      if (record) found.push({ ...record, ...(await this.counts(job)) });
      else await this.#redis.eval(DROP_NAME, 2, jobKey(job), JOBS, job);
    }
    return found.sort((a, b) => (a.began < b.began ? -1 : 1));
  }

  /** Forgets a job; results are another matter. */
  async forget(job: string): Promise<void> {
    await this.#redis.srem(JOBS, job);
    await this.#redis.del(...keysOf(job));
  }

  async markDone(job: string, range: string, worker: string): Promise<void> {
    await this.#redis.eval(MARK_DONE, 4, ...keysOf(job), range, worker, KEPT);
  }

  async refuse(job: string, { worker, message, isWaiting }: Refusal): Promise<void> {
    await this.#redis.hset(refusedKey(job), { [worker]: `${isWaiting ? 'waits' : 'refuses'}: ${message}` });
    await this.#redis.expire(refusedKey(job), KEPT);
  }

  async refusals(job: string): Promise<Refusal[]> {
    const found = await this.#redis.hgetall(refusedKey(job));
    return Object.entries(found).map(([worker, text]) => ({
      ...{ worker, isWaiting: text.startsWith('waits') },
      message: text.replace(/^\w+: /, ''),
    }));
  }

  async announce(record: WorkerRecord): Promise<void> {
    await this.#redis.set(workerKey(record.worker), JSON.stringify(record), 'EX', PRESENCE);
    await this.#redis.sadd(WORKERS, record.worker);
  }

  async leave(worker: string): Promise<void> {
    await this.#redis.del(workerKey(worker));
    await this.#redis.srem(WORKERS, worker);
  }

  /** Those that said within the last seconds that they are there. */
  async workers(): Promise<WorkerRecord[]> {
    const names = (await this.#redis.smembers(WORKERS)).sort();
    if (names.length === 0) return [];
    const found: WorkerRecord[] = [];
    for (const [i, text] of (await this.#redis.mget(names.map(workerKey))).entries()) {
      if (text === null) await this.#redis.srem(WORKERS, names[i]);
      else found.push(parseWorker(text, names[i]));
    }
    return found;
  }
}

function parseWorker(text: string, worker: string): WorkerRecord {
  try {
    const { machine, at, done } = JSON.parse(text);
    return {
      worker,
      machine: String(machine),
      done: Number(done),
      ...(at !== undefined && { at: String(at) }),
    };
  } catch {
    return { worker, machine: 'unknown', done: 0 };
  }
}
