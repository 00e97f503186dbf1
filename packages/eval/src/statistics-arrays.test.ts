import { bytesSource } from '@detailflow/core';
import { writeNpz } from '@detailflow/data';
import { expect, test } from 'vitest';
import { frechetDistance } from './frechet-distance';
import { GaussianStatistics } from './gaussian-statistics';
import { formatStatistics, readStatistics } from './statistics-arrays';

const read = (bytes: Uint8Array) => readStatistics(bytesSource(bytes, 'stats.npz'));

function statistics(width: number, shift: number) {
  const made = new GaussianStatistics(width);
  made.add(Float64Array.from({ length: 40 * width }, (_, i) => Math.sin(i * i) + shift));
  return made.finish();
}

test('statistics are written and read again to the bit', async () => {
  const given = { pool: statistics(5, 0.1), spatial: statistics(7, 0.2) };
  const found = await read(formatStatistics(given));
  expect(found).toEqual(given);
  expect(frechetDistance(found.pool, given.pool)).toBeCloseTo(0, 10);
  expect((await read(formatStatistics({ pool: given.pool }))).spatial).toBeUndefined();
});

test('float32 arrays, as older files have them', async () => {
  const { mean, covariance } = statistics(3, 0);
  const bytes = writeNpz({
    mu: { data: Float32Array.from(mean), shape: [3] },
    sigma: { data: Float32Array.from(covariance), shape: [3, 3] },
  });
  expect((await read(bytes)).pool.mean[1]).toBeCloseTo(mean[1], 6);
});

test.each([
  ['no statistics', { arr_0: { data: new Uint8Array(4), shape: [4] } }, 'format'],
  ['no sigma', { mu: { data: new Float64Array(3), shape: [3] } }, 'shape'],
  [
    'another width',
    { mu: { data: new Float64Array(3), shape: [3] }, sigma: { data: new Float64Array(4), shape: [2, 2] } },
    'shape',
  ],
  [
    'integers',
    { mu: { data: new Int32Array(1), shape: [1] }, sigma: { data: new Float64Array(1), shape: [1, 1] } },
    'dtype',
  ],
  [
    'NaN',
    {
      mu: { data: Float64Array.of(Number.NaN), shape: [1] },
      sigma: { data: new Float64Array(1), shape: [1, 1] },
    },
    'invalid-argument',
  ],
] as const)('%s', async (_name, arrays, code) => {
  const bytes = writeNpz(arrays as Parameters<typeof writeNpz>[0]);
  await expect(read(bytes)).rejects.toMatchObject({ code });
});

test('a truncated file', async () => {
  const bytes = formatStatistics({ pool: statistics(3, 0) });
  await expect(read(bytes.slice(0, -30))).rejects.toMatchObject({ code: 'format' });
});
