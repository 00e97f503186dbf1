import { bytesSource } from '@detailflow/core';
import { writeNpz } from '@detailflow/data';
import { describe, expect, test } from 'vitest';
import { exactNumbers as numbers } from '../../../tests/numbers-by-formula';
import { factorCovariance } from './covariance';
import { frechetDistance } from './frechet-distance';
import { GaussianStatistics } from './gaussian-statistics';
import { readStatistics } from './statistics-arrays';

const n = 12;

/** Of more rows than features, or of fewer. */
function covariance(rows = 40): Float64Array {
  const statistics = new GaussianStatistics(n);
  statistics.add(numbers('rows', rows * n));
  return statistics.finish().covariance;
}

const changed = (
  change: (matrix: Float64Array, set: (i: number, j: number, value: number) => void) => void,
) => {
  const matrix = covariance();
  change(matrix, (i, j, value) => {
    matrix[i * n + j] = matrix[j * n + i] = value;
  });
  return matrix;
};

/** No covariances, and what is said of them. */
const damaged: Record<string, [Float64Array, RegExp]> = {
  'an asymmetric entry': [
    changed((matrix) => {
      matrix[3 * n + 5] += 0.01;
    }),
    /\[5, 3\] and \[3, 5\] are .+ which must be equal/,
  ],
  'only the lower triangle': [
    covariance().map((value, at) => (at % n > Math.floor(at / n) ? 0 : value)),
    /which must be equal/,
  ],
  'a negative variance': [changed((_, set) => set(4, 4, -0.2)), /variance \[4, 4\] is -0\.2, below 0/],
  'a slightly negative variance': [changed((_, set) => set(4, 4, -1e-5)), /variance \[4, 4\] is -0\.00001/],
  'all below 0': [covariance().map((x) => -x), /variance \[0, 0\]/],
  'a correlation above 1': [
    changed((m, set) => set(0, 1, 1.01 * Math.sqrt(m[0] * m[n + 1]))),
    /eigenvalue -/,
  ],
  'a negative eigenvalue without one in the entries': [
    changed((matrix) => {
      for (let i = 0; i < n; i++) matrix[i * n + i] *= 0.3;
    }),
    /eigenvalue -1\.\d+, below 0 by more than rounding/,
  ],
  'no variance, but a covariance': [changed((_, set) => set(2, 2, 0)), /eigenvalue -/],
  'a damaged block of small features': [
    changed((matrix) => {
      for (let i = 0; i < n * n; i++) matrix[i] *= (i % n > 5 ? 1e-2 : 1) * (i / n >= 6 ? 1e-2 : 1);
      matrix[10 * n + 11] = matrix[11 * n + 10] = 1.5 * Math.sqrt(matrix[10 * n + 10] * matrix[11 * n + 11]);
    }),
    /eigenvalue -/,
  ],
  'not a number': [changed((_, set) => set(2, 7, Number.NaN)), /entry \[2, 7\] is NaN/],
  infinite: [changed((_, set) => set(1, 1, Number.POSITIVE_INFINITY)), /entry \[1, 1\] is Infinity/],
  'shuffled rows': [
    Float64Array.from(
      { length: n * n },
      (_, at) => covariance()[((Math.floor(at / n) + 1) % n) * n + (at % n)],
    ),
    /variance .+ below 0/,
  ],
};

describe.each(Object.keys(damaged))('%s', (name) => {
  const [matrix, message] = damaged[name];
  const mean = new Float64Array(n);

  test('has no distance, on either side', () => {
    const [broken, sound] = [
      { mean, covariance: matrix },
      { mean, covariance: covariance() },
    ];
    for (const [one, other] of [
      [broken, sound],
      [sound, broken],
      [broken, broken],
    ] as const) {
      expect(() => frechetDistance(one, other)).toThrow(
        expect.objectContaining({ code: 'invalid-argument' }),
      );
      expect(() => frechetDistance(one, other)).toThrow(message);
    }
  });

  test('is refused when it is read, by file and entry', async () => {
    const sound = { mu: { data: mean, shape: [n] }, sigma: { data: covariance(), shape: [n, n] } };
    const sigma = { data: matrix, shape: [n, n] };
    const spatial = { mu_s: { data: mean, shape: [n] }, sigma_s: sigma };
    for (const [entry, arrays] of [
      ['sigma', { ...sound, sigma }],
      ['sigma_s', { ...sound, ...spatial }],
    ] as const) {
      const reading = readStatistics(bytesSource(writeNpz(arrays), 'stats.npz'));
      await expect(reading).rejects.toMatchObject({ code: 'invalid-argument', file: 'stats.npz', entry });
    }
  });
});

describe('what rounding alone makes is taken', () => {
  const sets: Record<string, Float64Array> = {
    'full rank': covariance(),
    'fewer rows than features': covariance(5),
    'two rows': covariance(2),
    'fewer rows, in float32': Float64Array.from(covariance(5), Math.fround),
    'entries that differ by rounding': covariance().map((x, at) => x * (1 + 1e-7 * ((at % 3) - 1))),
    'features that do not vary': covariance().map((x, at) =>
      at % n === 3 || Math.floor(at / n) === 3 ? 0 : x,
    ),
    'no variance at all': new Float64Array(n * n),
    'features of very different size': covariance().map(
      (x, at) => x * 10 ** (-(at % n) / 2) * 10 ** (-Math.floor(at / n) / 2),
    ),
  };

  test.each(Object.keys(sets))('%s', (name) => {
    const { factor, rank, order } = factorCovariance(sets[name], n);
    const most = Math.max(...sets[name]);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let product = 0;
        for (let k = 0; k < rank; k++)
          product += (k <= i ? factor[i * n + k] : 0) * (k <= j ? factor[j * n + k] : 0);
        expect(Math.abs(product - sets[name][order[i] * n + order[j]])).toBeLessThanOrEqual(2e-6 * most);
      }
    }
    const one = { mean: new Float64Array(n), covariance: sets[name] };
    expect(Math.abs(frechetDistance(one, one))).toBeLessThanOrEqual(1e-5 * most);
  });

  test('a distance below 0 by rounding is not cut to 0', () => {
    const distances = Array.from({ length: 40 }, (_, i) => {
      const one = { mean: new Float64Array(n), covariance: covariance(20 + i) };
      return frechetDistance(one, one);
    });
    expect(distances.some((distance) => distance < 0)).toBe(true);
    expect(Math.min(...distances)).toBeGreaterThan(-1e-12);
  });
});

test('values beyond what float64 can square are refused', () => {
  const one = { mean: new Float64Array(n).fill(1e200), covariance: covariance() };
  expect(() => frechetDistance(one, { ...one, mean: new Float64Array(n) })).toThrow(/too large/);
});
