import { RandomStream } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { expect, test } from 'vitest';
import { compareFeatures } from './comparison';
import { GaussianStatistics } from './gaussian-statistics';

const width = 4;
const rows = (count: number, seed: number) => {
  const random = new RandomStream({ seed, purpose: 1, position: 0 });
  return Float32Array.from({ length: count * width }, () => random.normal());
};
const statistics = (pool: Float32Array) => {
  const gaussian = new GaussianStatistics(width);
  gaussian.add(pool);
  return { pool: gaussian.finish() };
};

async function warnings(pool: Float32Array, real: Float32Array): Promise<readonly string[]> {
  const count = pool.length / width;
  const set = {
    ...{ count, width, classes: 0, pool, statistics: statistics(pool) },
    ...{ predicted: new Int32Array(count), labels: new Int32Array(count) },
  };
  const found = await compareFeatures(
    set,
    { statistics: statistics(real), pool: real },
    {
      backend: createReferenceBackend(),
    },
  );
  return found.warnings.filter((one) => !one.startsWith('KID'));
}

test('pictures that are there twice, or on both sides, are told of', async () => {
  const [drawn, real] = [rows(200, 1), rows(200, 2)];
  expect(await warnings(drawn, real)).toEqual([]);
  const doubled = drawn.slice();
  doubled.set(drawn.subarray(0, 100 * width), 100 * width);
  expect(await warnings(doubled, real)).toEqual([
    expect.stringMatching(/^100 of 200 images have the very features of an earlier one/),
  ]);
  expect(await warnings(real, doubled)).toEqual([
    expect.stringMatching(/^100 of 200 real images have the very features of an earlier one/),
  ]);
  const leaked = drawn.slice();
  leaked.set(real.subarray(20 * width, 50 * width), 40 * width);
  expect(await warnings(leaked, real)).toEqual([
    expect.stringMatching(/^30 of 200 images have the very features of a real one/),
  ]);
  // One in a hundred may be chance.
  const one = drawn.slice();
  one.copyWithin(0, width, 2 * width);
  expect(await warnings(one, real)).toEqual([]);
});
