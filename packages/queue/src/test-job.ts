import { createHash } from 'node:crypto';
import type { JobSpec } from './job-spec';
import type { ShardRange } from './shard-range';
import type { ShardArray } from './shard-result';
import type { ShardTask } from './shard-task';

/** A small job: row i is the SHA-256 of seed and i. */
export const testSpec = (seed = 0, hints: JobSpec['hints'] = {}): JobSpec => ({
  kind: 'digests',
  identity: { seed },
  hints,
  title: `digests of ${seed}`,
});

export function digestRows(seed: number, { first, count }: ShardRange): { rows: ShardArray } {
  const data = new Uint8Array(count * 32);
  for (let i = 0; i < count; i++)
    data.set(
      createHash('sha256')
        .update(`${seed} ${first + i}`)
        .digest(),
      32 * i,
    );
  return { rows: { data, shape: [count, 32] } };
}

/** @param before is awaited before every shard */
export function digestTask(
  before: (range: ShardRange, signal: AbortSignal) => Promise<void> | void = () => {},
): ShardTask {
  return {
    async prepare({ identity }) {
      const { seed } = identity as { seed: number };
      return {
        machine: 'a test',
        async run(range, { signal }) {
          await before(range, signal);
          return { arrays: digestRows(seed, range) };
        },
        async close() {},
      };
    },
  };
}
