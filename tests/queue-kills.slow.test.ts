import { expect, test } from 'vitest';
import { hasRedis } from '../packages/queue/src/test-redis';
import { testFolder } from './cli';
import { drawWhileKilling } from './queue-kills';

const at = testFolder();

/** `DETAILFLOW_SHARDS=200` for a first look: the whole takes some minutes on two cores. */
const SHARDS = Number(process.env.DETAILFLOW_SHARDS ?? 2000);

test.runIf(hasRedis)(
  `${SHARDS} shards while workers, the server and the command itself are killed`,
  { timeout: 6 * 3_600_000 },
  async () => {
    expect.hasAssertions();
    await drawWhileKilling(at('kills'), { shards: SHARDS, kills: SHARDS / 50 });
  },
);
