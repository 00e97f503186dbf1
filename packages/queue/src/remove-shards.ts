import type { JobType, Queue } from 'bullmq';

/** Takes shards of a job out of the queue, by default all that no worker is at. @returns how many */
export async function removeShards(
  queue: Queue,
  job: string,
  places: JobType[] = ['waiting', 'delayed', 'failed'],
): Promise<number> {
  let removed = 0;
  for (const shard of await queue.getJobs(places)) {
    if (shard?.data?.job !== job) continue;
    // One that a worker has just taken stays.
    const isOut = await shard.remove().then(
      () => true,
      () => false,
    );
    if (isOut) removed++;
  }
  return removed;
}
