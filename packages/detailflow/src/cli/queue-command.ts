import type { QueueControl, QueueStatus } from '@detailflow/queue';
import { type Command, type Report, UsageError } from './command';
import { queueAddress, queueOption } from './queue/queue-options';
import { Values } from './values';

const verbs = ['status', 'pause', 'resume', 'cancel', 'failed'] as const;

export const queueCommand: Command = {
  name: 'queue',
  summary: 'look at the work in a queue, and steer it',
  usage: '(status | pause | resume | cancel JOB | failed [JOB] [--retry]) --queue URL',
  options: {
    ...queueOption,
    retry: { type: 'boolean', help: 'failed: put them back into the queue' },
  },
  examples: [
    'queue status --queue redis://10.0.0.1',
    'queue cancel 3f9a12 --queue redis://10.0.0.1',
    'queue failed --retry --queue redis://10.0.0.1',
  ],
  async run(invocation) {
    const values = new Values(invocation);
    const [verb, name, ...others] = invocation.positionals;
    if (!verbs.includes(verb as (typeof verbs)[number]))
      throw new UsageError(`say what to do: ${verbs.join(', ')}`);
    const takesJob = verb === 'cancel' || verb === 'failed';
    if (others.length > 0 || (name !== undefined && !takesJob)) {
      throw new UsageError(`"${others[0] ?? name}" is not expected here`);
    }
    if (verb === 'cancel' && name === undefined) throw new UsageError('say which job: see queue status');
    const retry = values.flag('retry');
    if (retry && verb !== 'failed')
      throw new UsageError(`--retry is for queue failed, not for queue ${verb}`);
    if (name !== undefined && !/^[0-9a-f]{4,64}$/.test(name)) {
      throw new UsageError(
        `"${name}" names no job: give at least four of its hexadecimal digits; see queue status`,
      );
    }
    const address = await queueAddress(values);
    const { QueueControl } = await import('@detailflow/queue');
    const control = await QueueControl.open(address, { signal: invocation.signal });
    try {
      switch (verb) {
        case 'status':
          return statusReport(await control.status());
        case 'pause':
          await control.pause();
          return { lines: ['paused: workers finish what they are at'], json: { isPaused: true } };
        case 'resume':
          await control.resume();
          return { lines: ['resumed'], json: { isPaused: false } };
        case 'cancel':
          return await cancel(control, name);
        default:
          return await failed(control, { name, retry });
      }
    } finally {
      await control.close();
    }
  },
};

/** Digits by which a job is named for people. */
const short = (job: string) => job.slice(0, 12);

function statusReport(status: QueueStatus): Report {
  const { isPaused, waiting, active, jobs, workers } = status;
  return {
    lines: [
      `${waiting} shards waiting, ${active} being computed${isPaused ? '; paused' : ''}`,
      ...(jobs.length === 0 ? ['no jobs'] : []),
      ...jobs.map(
        ({ job, kind, title, state, asked, done, failed }) =>
          `${short(job)}  ${state}  ${done} of ${asked} shards${failed > 0 ? `, ${failed} failed` : ''}  ${kind}  ${title}`,
      ),
      ...(workers.length === 0 ? ['no workers'] : []),
      ...workers.map(
        ({ worker, machine, at, done }) =>
          `worker ${worker}  ${done} shards done  ${at ?? 'idle'}  ${machine}`,
      ),
    ],
    json: { ...status },
  };
}

async function cancel(control: QueueControl, name: string): Promise<Report> {
  const found = await control.cancel(name);
  return {
    lines: [`job ${short(found.job)} is cancelled; ${found.removed} shards were waiting`],
    json: found,
  };
}

async function failed(
  control: QueueControl,
  { name, retry }: { readonly name?: string; readonly retry: boolean },
): Promise<Report> {
  const shards = (await control.failed()).filter(({ job }) => name === undefined || job.startsWith(name));
  const retried = retry ? await control.retry(name) : 0;
  return {
    lines: [
      ...(shards.length === 0 ? ['no shard has failed'] : []),
      ...shards.map(
        ({ job, range, reason, attempts }) => `${short(job)}  ${range}  ${attempts} attempts  ${reason}`,
      ),
      ...(retry ? [`${retried} shards are in the queue again`] : []),
    ],
    json: { failed: shards, retried },
  };
}
