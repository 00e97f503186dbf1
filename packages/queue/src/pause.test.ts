import { expect, test } from 'vitest';
import { atMost } from './pause';

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

test.each([
  ['an answer', async () => 1],
  ['a failure', async () => Promise.reject(new Error('no'))],
])(
  'nothing is waited for after %s, and no timer is left, which would keep the process',
  async (_, answer) => {
    const before = timers();
    await atMost(3_600_000, answer());
    expect(timers()).toBeLessThanOrEqual(before);
  },
);

test('no longer is waited than is said', async () => {
  await expect(atMost(1, new Promise(() => {}))).resolves.toBeUndefined();
});
