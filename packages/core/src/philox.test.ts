import { describe, expect, it } from 'vitest';
import { exponentialNoise, type PhiloxBlock, philox4x32, randomRanks } from './philox';

describe('philox4x32', () => {
  // The known-answer vectors of Random123 (kat_vectors, philox 4x32 10).
  it.each<[PhiloxBlock, [number, number], PhiloxBlock]>([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])('counter %j, key %j', (counter, key, words) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });
});

describe('exponentialNoise', () => {
  it('is the documented function of the Philox words', () => {
    const seed = 5 * 2 ** 32 + 7;
    const noise = exponentialNoise({ seed, position: 3, count: 10 });
    for (let i = 0; i < 10; i++) {
      const word = philox4x32([Math.floor(i / 4), 3, 0, 0], [7, 5])[i % 4];
      expect(noise[i]).toBe(Math.fround(-Math.log((word + 0.5) / 2 ** 32)));
    }
  });

  it('has mean 1, variance 1 and the median ln 2, and is finite and positive', () => {
    const count = 200_000;
    const noise = exponentialNoise({ seed: 1, position: 0, count });
    let [sum, squares, below] = [0, 0, 0];
    for (const x of noise) {
      if (!(x > 0 && x < 23)) expect.fail(`${x} is no draw`);
      sum += x;
      squares += x * x;
      if (x < Math.LN2) below++;
    }
    const mean = sum / count;
    expect(Math.abs(mean - 1)).toBeLessThan(0.01); // 4.5 standard errors
    expect(Math.abs(squares / count - mean * mean - 1)).toBeLessThan(0.03);
    expect(Math.abs(below / count - 0.5)).toBeLessThan(0.005);
  });

  it('gives a shorter run as the start of a longer one, whatever was drawn before', () => {
    const long = exponentialNoise({ seed: 9, position: 4, count: 101 });
    exponentialNoise({ seed: 8, position: 1, count: 33 });
    for (const count of [0, 1, 3, 4, 5, 101]) {
      expect(exponentialNoise({ seed: 9, position: 4, count })).toEqual(long.slice(0, count));
    }
  });

  it('differs between seeds, high words of seeds, and positions', () => {
    const runs = [
      { seed: 0, position: 0 },
      { seed: 1, position: 0 },
      { seed: 2 ** 32, position: 0 },
      { seed: 0, position: 1 },
    ].map((options) => exponentialNoise({ ...options, count: 8 }).join());
    expect(new Set(runs).size).toBe(runs.length);
  });

  it('fills a given array and refuses one of another length', () => {
    const out = new Float32Array(6);
    expect(exponentialNoise({ seed: 2, position: 2, count: 6, out })).toBe(out);
    expect(out).toEqual(exponentialNoise({ seed: 2, position: 2, count: 6 }));
    expect(() => exponentialNoise({ seed: 2, position: 2, count: 5, out })).toThrow(/out holds 6/);
  });

  it.each([
    { seed: -1, position: 0, count: 1 },
    { seed: 2 ** 53, position: 0, count: 1 },
    { seed: 0.5, position: 0, count: 1 },
    { seed: 0, position: 2 ** 32, count: 1 },
    { seed: 0, position: 0, count: -1 },
  ])('refuses %j', (options) => {
    expect(() => exponentialNoise(options)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('randomRanks', () => {
  it('is uniform over 0 .. limit - 1', () => {
    const [count, limit] = [50_000, 50];
    const seen = new Array<number>(limit).fill(0);
    for (const rank of randomRanks({ seed: 3, count, limit })) seen[rank]++;
    const expected = count / limit;
    const chiSquare = seen.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    expect(seen).toHaveLength(limit);
    expect(chiSquare).toBeLessThan(95); // 49 degrees of freedom: exceeded once in 10,000 times
    expect(chiSquare).toBeGreaterThan(18);
  });

  it('uses a stream of its own', () => {
    const ranks = randomRanks({ seed: 7, position: 2, count: 4, limit: 2 ** 20 });
    const words = philox4x32([0, 2, 1, 0], [7, 0]);
    expect([...ranks]).toEqual(words.map((word) => word >>> 12));
    expect(randomRanks({ seed: 7, count: 4, limit: 2 ** 20 })).not.toEqual(ranks);
  });

  it('refuses a limit of 0', () => {
    expect(() => randomRanks({ seed: 0, count: 1, limit: 0 })).toThrow(/limit is 0/);
  });
});
