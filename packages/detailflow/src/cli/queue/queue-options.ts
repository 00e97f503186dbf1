import type { QueueAddress, ShardClient } from '@detailflow/queue';
import { type Invocation, type Options, UsageError } from '../command';
import { showNotice } from '../show-notice';
import type { Values } from '../values';

/** Password of the queue where its address has none: arguments of a program can be seen by others on its machine. */
const PASSWORD = 'DETAILFLOW_QUEUE_PASSWORD';

export const queueOption: Options = {
  queue: {
    type: 'string',
    value: 'URL',
    isSecret: true,
    help: `redis(s)://[user:password@]host[:port][/db]; the password also in ${PASSWORD}`,
  },
};

const resultsOption: Options = {
  results: {
    type: 'string',
    value: 'DIR',
    help: 'with --queue: a folder that all machines share, for results (default: in Redis)',
  },
};

/** For commands whose work may be given to other machines. */
export const workOptions: Options = { ...queueOption, ...resultsOption };

/** The address that --queue names. @throws UsageError, which does not quote it */
export async function queueAddress(values: Values): Promise<QueueAddress> {
  const { parseQueueAddress } = await import('@detailflow/queue');
  const text = values.required('queue');
  try {
    return parseQueueAddress(text, process.env[PASSWORD] || undefined);
  } catch (error) {
    throw new UsageError(`--queue: ${(error as Error).message}`);
  }
}

/**
 * Connects to the queue that --queue names; undefined where there is no --queue.
 * @throws UsageError for --results without --queue
 */
export async function openQueue(invocation: Invocation, values: Values): Promise<ShardClient | undefined> {
  const results = values.text('results');
  if (values.text('queue') === undefined) {
    if (results !== undefined)
      throw new UsageError('--results is for work that --queue gives to other machines');
    return undefined;
  }
  if (values.flag('partial')) {
    throw new UsageError(
      '--partial: with --queue the content of the model must be known, which must be here',
    );
  }
  if (values.text('family-module') !== undefined) {
    throw new UsageError('--family-module: workers of --queue know the families of this package alone');
  }
  const address = await queueAddress(values);
  const { ShardClient } = await import('@detailflow/queue');
  return ShardClient.open(address, { results, signal: invocation.signal, onNotice: showNotice });
}

/** What is to be said when the command is stopped while workers are at what it has given them. */
export async function leftLines(queue: ShardClient | undefined, values: Values): Promise<string[]> {
  if (!queue || queue.unfinished.length === 0) return [];
  const { name } = await queueAddress(values);
  return [
    'workers go on with what was given to the queue, and the same command takes what they have done; to end it:',
    ...queue.unfinished.map((job) => `detailflow queue cancel ${job.slice(0, 12)} --queue ${name}`),
  ];
}

/** What is to be said of the machines that took part. */
export function machineLines({ machines }: ShardClient): string[] {
  if (machines.length < 2) return machines.map((one) => `computed on ${one}`);
  return [
    `computed on ${machines.length} kinds of machines, so last digits may differ: ${machines.join('; ')}`,
  ];
}
