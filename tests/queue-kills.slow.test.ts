import { expect, test } from 'vitest';
import { hasRedis } from '../packages/queue/src/test-redis';
import { testFolder } from './cli';
import { drawWhileKilling } from './queue-kills';

const at = testFolder();

test.runIf(hasRedis)('2,000 shards while workers, the server and the command itself are killed', async () => {
  expect.hasAssertions();
  await drawWhileKilling(at('kills'), { shards: 2000, kills: 40 });
});
