import { expect, test } from 'vitest';
import { KeptLatest } from './kept-latest';

const made =
  (value: string, bytes: number, isSpare = false) =>
  async () => ({ value, bytes, isSpare });

test('the latest used things are kept, within the bytes', async () => {
  const kept = new KeptLatest<string, string>(10);
  for (const name of ['a', 'b', 'a', 'c']) await kept.get(name, made(name, 4));
  expect(['a', 'b', 'c'].map((name) => kept.has(name))).toEqual([true, false, true]);
  expect(await kept.get('a', made('another', 4))).toBe('a');
});

test('what is larger than the room is kept while it is all there is, unless it can be spared', async () => {
  const kept = new KeptLatest<string, string>(10);
  await kept.get('large', made('large', 20));
  expect(kept.has('large')).toBe(true);
  await kept.get('spare', made('spare', 20, true));
  expect([kept.has('large'), kept.has('spare')]).toEqual([false, false]);
});

test('one thing is made at a time, for all who ask', async () => {
  const kept = new KeptLatest<number, number>(100);
  let [now, most, count] = [0, 0, 0];
  const make = (key: number) => async () => {
    most = Math.max(most, ++now);
    count++;
    await new Promise((done) => setTimeout(done, 2));
    now--;
    return { value: key, bytes: 1, isSpare: false };
  };
  const found = await Promise.all(Array.from({ length: 20 }, (_, i) => kept.get(i % 5, make(i % 5))));
  expect(found).toEqual(Array.from({ length: 20 }, (_, i) => i % 5));
  expect([most, count]).toEqual([1, 5]);
});

test('what could not be made is made again when it is asked for again', async () => {
  const kept = new KeptLatest<string, string>(10);
  const fails = async () => {
    throw new Error('not now');
  };
  await expect(kept.get('a', fails)).rejects.toThrow('not now');
  expect(await kept.get('a', made('a', 1))).toBe('a');
});
