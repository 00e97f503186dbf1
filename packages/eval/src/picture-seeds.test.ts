import { expect, test } from 'vitest';
import { firstPictureSeeds, PICTURES_PER_SEED } from './picture-seeds';

test('pictures of different seeds are drawn with different seeds, however many there are', () => {
  const seeds = [0, 1, 10, 20, 100_000, 2 ** 32 - 1, 9_007_199_253];
  const firsts = firstPictureSeeds(seeds, PICTURES_PER_SEED);
  const ranges = firsts.map((first) => [first, first + PICTURES_PER_SEED - 1]).sort(([a], [b]) => a - b);
  for (const [i, [first, last]] of ranges.entries()) {
    expect(Number.isSafeInteger(last)).toBe(true);
    if (i > 0) expect(first).toBeGreaterThan(ranges[i - 1][1]);
  }
});

test('a picture depends on its seed and number alone: neither on how many there are nor on other seeds', () => {
  const [first] = firstPictureSeeds([7], 10);
  expect(firstPictureSeeds([3, 7, 0], 1_000_000)[1]).toBe(first);
  expect(firstPictureSeeds([0], 10)).toEqual([0]); // those of `generate --seed 0`
});

test.each([
  [[0, 10, 0], 5, /seed 0 is given twice/],
  [[-1], 5, /seed -1/],
  [[0.5], 5, /seed 0\.5/],
  [[Number.NaN], 5, /seed NaN/],
  [[9_007_199_254], 5, /from 0 to 9007199253/],
  [[0], 1_000_001, /1000001 pictures/],
  [[0], 0, /0 pictures/],
])('%j with %i pictures are refused', (seeds, count, message) => {
  const drawing = () => firstPictureSeeds(seeds, count);
  expect(drawing).toThrow(message);
  expect(drawing).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});
