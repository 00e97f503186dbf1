import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { DelayedError, type Job, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { connectUntil, disconnect, LAST_WORD } from './connection';
import { folderResults } from './folder-results';
import { JobRecords, type ResultsPlace } from './job-records';
import type { JobSpec } from './job-spec';
import { PREFIX, QUEUE } from './keys';
import { atMost, pause, unlessAborted } from './pause';
import type { QueueAddress } from './queue-address';
import { queueError, withoutSecrets } from './queue-error';
import { redisResults } from './redis-results';
import { LOCK, LOST, MOST_CRASHES, parseShardData } from './shard-data';
import { rangeName, type ShardRange } from './shard-range';
import type { ShardResults } from './shard-results';
import type { PreparedTask, ShardTask } from './shard-task';

/** Which queue a worker serves, and what it can do. */
export interface RunWorkerOptions {
  /** By the kinds of jobs. */
  readonly tasks: Readonly<Record<string, ShardTask>>;
  /** The folder for results that all machines share, as this machine sees it; jobs that want one are refused without it. */
  readonly results?: string;
  /** Ends the worker: what it is at goes back to the queue at once, for others. */
  readonly signal: AbortSignal;
  /** Takes one-line notices: jobs that are refused, shards that fail, a lost connection. */
  readonly onNotice?: (message: string) => void;
  /** Told of every shard that is done, with the number of pieces in it. */
  readonly onShard?: (shard: {
    readonly job: string;
    readonly range: ShardRange;
    readonly isNew: boolean;
  }) => void;
}

/** What a worker did until it was ended. */
export interface WorkerSummary {
  /** Shards computed here. */
  readonly done: number;
  /** Shards whose results were there already. */
  readonly known: number;
  readonly failed: number;
  readonly givenBack: number;
}

/** Milliseconds: between signs of life; until others get a shard that was refused, and this worker the next; for the end. */
const [SIGN, SOON, REFUSED, FAREWELL] = [1000, 100, 2000, 10_000];

/**
 * Computes shards until `signal` ends it; one at a time, so start as many workers as there are devices. The tasks must leave the
 * event loop free, as `@detailflow/backend-node` does, or others take over what this worker is still at.
 * @throws DetailFlowError `network`, `unauthorised`, `invalid-argument` when there is no connection at the beginning; a lost one is
 *   tried again for ever
 * @see https://detailflow.github.io/detailflow-ts/guide/many-machines.html
 */
export async function runWorker(address: QueueAddress, options: RunWorkerOptions): Promise<WorkerSummary> {
  checkOptions('runWorker', options, {
    ...{ tasks: true, results: true, signal: true, onNotice: true, onShard: true },
  });
  const { signal, onNotice, tasks, results, onShard } = options;
  const wrong = (what: string, value: unknown, wanted: string) =>
    new DetailFlowError('invalid-argument', `${what} is ${describe(value)}; give ${wanted}`);
  if (typeof tasks !== 'object' || tasks === null) throw wrong('tasks', tasks, 'tasks by the kinds of jobs');
  for (const [kind, task] of Object.entries(tasks)) {
    if (typeof task?.prepare !== 'function')
      throw wrong(`the task "${kind}"`, task, 'an object with prepare()');
  }
  if (onShard !== undefined && typeof onShard !== 'function') throw wrong('onShard', onShard, 'a function');
  if (signal === undefined) throw wrong('signal', signal, 'an AbortSignal: it alone ends a worker');
  if (results !== undefined) folderResults(results); // before there is a connection
  const redis = await connectUntil(address, { onNotice, signal });
  const one = new ShardWorker(redis, address, options);
  try {
    return await one.run();
  } finally {
    await disconnect(redis);
  }
}

class ShardWorker {
  readonly #name = `${hostname()}-${process.pid}-${randomBytes(2).toString('hex')}`;
  readonly #redis: Redis;
  readonly #address: QueueAddress;
  readonly #options: RunWorkerOptions;
  readonly #records: JobRecords;
  readonly #results: Readonly<Record<ResultsPlace, ShardResults | undefined>>;
  readonly #count = { done: 0, known: 0, failed: 0, givenBack: 0 };
  readonly #told = new Set<string>();
  #ready: { readonly job: string; readonly task: PreparedTask; readonly place: ResultsPlace } | undefined;
  #at: { readonly job: string; readonly range: ShardRange; readonly stop: AbortController } | undefined;
  #machine = 'idle';

  constructor(redis: Redis, address: QueueAddress, options: RunWorkerOptions) {
    const { results } = options;
    this.#redis = redis;
    this.#address = address;
    this.#options = options;
    this.#records = new JobRecords(redis, address.name);
    this.#results = {
      redis: redisResults(redis, address),
      folder: results === undefined ? undefined : folderResults(results),
    };
  }

  async run(): Promise<WorkerSummary> {
    const { signal } = this.#options;
    const worker = new Worker(QUEUE, (job, token) => this.#process(job, token as string), {
      connection: this.#redis,
      prefix: PREFIX,
      name: this.#name,
      concurrency: 1,
      lockDuration: LOCK,
      stalledInterval: LOST,
      maxStalledCount: MOST_CRASHES - 1,
      runRetryDelay: SIGN,
    });
    worker.on('error', (error) => {
      // A lost connection is told of where it is made.
      const { code, message } = queueError(this.#address, error);
      if (code !== 'network') this.#notice(message);
    });
    const closed = new Promise<void>((resolve) => {
      const close = () => {
        void worker.close().finally(resolve); // takes nothing new from here on
        this.#at?.stop.abort(signal.reason);
      };
      if (signal.aborted) close();
      else signal.addEventListener('abort', close, { once: true });
    });
    const signs = this.#giveSigns();
    await unlessAborted(new Promise<never>(() => {}), signal).catch(() => {});
    await atMost(FAREWELL, closed);
    clearInterval(signs);
    await this.#ready?.task.close();
    if (this.#redis.status === 'ready') await atMost(LAST_WORD, this.#records.leave(this.#name));
    return { ...this.#count };
  }

  /** Says that this worker is there, and looks whether what it is at is still wanted. */
  #giveSigns(): NodeJS.Timeout {
    const sign = async () => {
      const at = this.#at;
      await this.#records.announce({
        ...{ worker: this.#name, machine: this.#machine, done: this.#count.done },
        ...(at && { at: `${rangeName(at.range)} of ${at.job.slice(0, 12)}` }),
      });
      if (at && (await this.#records.state(at.job)) === 'cancelled') at.stop.abort(cancelled);
    };
    const trying = () => void sign().catch(() => {}); // it is told of a lost connection elsewhere
    trying();
    return setInterval(trying, SIGN);
  }

  async #process(shard: Job, token: string): Promise<void> {
    const stop = new AbortController();
    const { signal } = this.#options;
    if (signal.aborted) await this.#giveBack(shard, token);
    let parsed: ReturnType<typeof parseShardData>;
    try {
      parsed = parseShardData(shard.data);
    } catch (error) {
      throw new UnrecoverableError((error as Error).message);
    }
    const { job, range } = parsed;
    this.#at = { job, range, stop };
    try {
      await this.#compute(job, range, stop.signal);
    } catch (error) {
      if (stop.signal.aborted && stop.signal.reason === cancelled) return;
      if (signal.aborted) await this.#giveBack(shard, token);
      const refused = refusalOf(error);
      if (refused) {
        if (await this.#refuse(job, refused.cause)) {
          await pause(REFUSED, signal).catch(() => {});
          await this.#giveBack(shard, token); // before the others, which would need room, too
        }
        await shard.moveToDelayed(Date.now() + SOON, token); // behind the others
        await pause(REFUSED, signal).catch(() => {}); // others are to get it
        throw new DelayedError('refused');
      }
      throw this.#failure(job, range, error);
    } finally {
      this.#at = undefined;
    }
  }

  async #compute(job: string, range: ShardRange, signal: AbortSignal): Promise<void> {
    const record = await this.#records.read(job);
    if (!record || record.state === 'cancelled') return; // whoever still wants it begins the job again
    const results = this.#results[record.results];
    if (!results) {
      throw new Refused(
        new DetailFlowError(
          'config',
          'the job wants its results in a folder that all machines share; start the worker with --results DIR',
        ),
      );
    }
    const ready = await this.#prepare(job, record.spec, record.results, signal);
    const isThere = (await refusing(results.read(job, range))) !== undefined;
    if (!isThere) {
      const started = performance.now();
      const { arrays, notes } = await ready.run(range, { signal });
      signal.throwIfAborted();
      const seconds = (performance.now() - started) / 1000;
      await refusing(results.write(job, range, { arrays, notes, machine: ready.machine, seconds }));
    }
    await this.#records.markDone(job, rangeName(range), this.#name);
    this.#count[isThere ? 'known' : 'done']++;
    this.#options.onShard?.({ job, range, isNew: !isThere });
  }

  async #prepare(
    job: string,
    spec: JobSpec,
    place: ResultsPlace,
    signal: AbortSignal,
  ): Promise<PreparedTask> {
    if (this.#ready?.job === job && this.#ready.place === place) return this.#ready.task;
    await this.#ready?.task.close();
    this.#ready = undefined;
    const { tasks } = this.#options;
    if (!Object.hasOwn(tasks, spec.kind)) {
      const known = Object.keys(tasks).join(', ');
      throw new Refused(
        new DetailFlowError(
          'unsupported',
          `the job is of kind "${spec.kind.slice(0, 40)}"; this worker knows ${known}`,
        ),
      );
    }
    await refusing(Promise.resolve(this.#results[place]?.begin(job, spec)));
    const task = await refusing(tasks[spec.kind].prepare(spec, { signal }));
    this.#ready = { job, task, place };
    this.#machine = task.machine;
    return task;
  }

  /** Leaves a job to others. @returns whether it only waits for room */
  async #refuse(job: string, cause: unknown): Promise<boolean> {
    const message = this.#text(cause);
    // Room comes when results are merged; what is on a disk stays.
    const isWaiting =
      DetailFlowError.isInstance(cause) && cause.code === 'limit' && cause.file === this.#address.name;
    this.#notice(`${isWaiting ? 'waits with' : 'refuses'} job ${job.slice(0, 12)}: ${message}`);
    await this.#records.refuse(job, { worker: this.#name, message, isWaiting }).catch(() => {}); // without room not even that
    return isWaiting;
  }

  async #giveBack(shard: Job, token: string): Promise<never> {
    await shard.moveToWait(token);
    this.#count.givenBack++;
    throw new WaitingError('given back');
  }

  /** What BullMQ is told of a shard that failed: another try helps only against what is wrong with a machine. */
  #failure(job: string, range: ShardRange, error: unknown): Error {
    const message = this.#text(error);
    this.#count.failed++;
    this.#notice(`shard ${rangeName(range)} of job ${job.slice(0, 12)}: ${message}`);
    const mayPass =
      !DetailFlowError.isInstance(error) ||
      ['io', 'runtime', 'network', 'device-lost', 'device-unavailable', 'limit'].includes(error.code);
    return mayPass ? new Error(message) : new UnrecoverableError(message);
  }

  #text(error: unknown): string {
    return withoutSecrets(this.#address, error instanceof Error ? error.message : String(error)).slice(
      0,
      1000,
    );
  }

  /** Says a thing once. */
  #notice(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#options.onNotice?.(message);
  }
}

const cancelled = new DetailFlowError('runtime', 'the job was cancelled');

/** This worker cannot do a job; others may. */
class Refused extends Error {
  override readonly name = 'Refused';

  constructor(override readonly cause: unknown) {
    super('refused');
  }
}

/** Also what a task throws because what it has here is not what the job means. */
function refusalOf(error: unknown): Refused | undefined {
  if (error instanceof Refused) return error;
  return DetailFlowError.isInstance(error) && error.code === 'config' ? new Refused(error) : undefined;
}

async function refusing<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(error);
  }
}
