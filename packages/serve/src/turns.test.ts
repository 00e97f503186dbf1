import { expect, test } from 'vitest';
import { Turns } from './turns';

test('so many work at once, in the order in which they came; who leaves the queue is not called', async () => {
  const turns = new Turns(2);
  const { signal } = new AbortController();
  const leaving = new AbortController();
  const begun: number[] = [];
  let [running, most] = [0, 0];
  const work = (index: number) => async () => {
    begun.push(index);
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    if (index === 1) throw new Error('broken');
  };
  const all = Array.from({ length: 6 }, (_, i) => turns.run(i === 3 ? leaving.signal : signal, work(i)));
  leaving.abort(new Error('no longer'));
  const found = await Promise.allSettled(all);
  expect(found.map((one) => (one.status === 'rejected' ? one.reason.message : 'done'))).toEqual([
    ...['done', 'broken', 'done', 'no longer', 'done', 'done'],
  ]);
  expect([begun, most]).toEqual([[0, 1, 2, 4, 5], 2]);
  await expect(turns.run(leaving.signal, work(6))).rejects.toThrow('no longer');
  await turns.run(signal, work(7));
  expect(begun.at(-1)).toBe(7);
});
