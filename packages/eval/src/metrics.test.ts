import { readFileSync } from 'node:fs';
import { createReferenceBackend } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { exactNumbers as numbers } from '../../../tests/numbers-by-formula';
import { frechetDistance } from './frechet-distance';
import { GaussianStatistics } from './gaussian-statistics';
import { inceptionScore } from './inception-score';
import { kernelDistance } from './kernel-distance';
import { precisionRecall } from './precision-recall';
import { psnr } from './psnr';
import { ssim } from './ssim';
import { symmetricEigenvalues } from './symmetric-eigenvalues';

/** By scipy, numpy and scikit-image: tools/reference/eval-metrics.py. */
const reference = JSON.parse(
  readFileSync(new URL('../../../tests/fixtures/eval-metrics.json', import.meta.url), 'utf8'),
);

function features(name: string, rows: number, width: number): Float32Array {
  const mix = numbers(`${name}/mix`, width * width).map((x) => x / Math.sqrt(width));
  const [x, mean] = [numbers(name, rows * width), numbers(`${name}/mean`, width)];
  return Float32Array.from({ length: rows * width }, (_, at) => {
    const [row, column] = [Math.floor(at / width), at % width];
    let sum = mean[column];
    for (let k = 0; k < width; k++) sum += x[row * width + k] * mix[k * width + column];
    return sum;
  });
}

function gaussian(rows: ArrayLike<number>, width: number) {
  const statistics = new GaussianStatistics(width);
  statistics.add(rows);
  return statistics.finish();
}

const relative = (x: number, y: number) => Math.abs(x - y) / Math.abs(y);

describe('Frechet distance', () => {
  test.each(Object.keys(reference.frechet).filter((name) => /^\d/.test(name)))('scipy: %s', (name) => {
    const [rows, width] = name.split(' ').map(Number);
    const [a, b] = [features('a', rows, width), features('b', rows + 7, width)];
    const found = frechetDistance(gaussian(a, width), gaussian(b, width));
    expect(relative(found, reference.frechet[name])).toBeLessThan(1e-6);
  });

  test('columns over six orders of magnitude; fewer rows than columns', () => {
    const scaled = (name: string) =>
      Float64Array.from(features(name, 300, 32), (x, i) => x * 10 ** ((-6 * (i % 32)) / 31));
    const ill = frechetDistance(gaussian(scaled('a'), 32), gaussian(scaled('b'), 32));
    expect(relative(ill, reference.frechet.scaled)).toBeLessThan(1e-6);
    const deficient = frechetDistance(
      gaussian(features('a', 20, 48), 48),
      gaussian(features('b', 30, 48), 48),
    );
    expect(relative(deficient, reference.frechet.deficient)).toBeLessThan(1e-6);
  });

  test('nothing between a set and itself, the same both ways, and more with more noise', () => {
    const a = features('a', 200, 20);
    const noisy = (strength: number) => {
      const noise = numbers('noise', a.length);
      return gaussian(
        a.map((x, i) => x + strength * noise[i]),
        20,
      );
    };
    const one = gaussian(a, 20);
    expect(Math.abs(frechetDistance(one, one))).toBeLessThan(1e-6);
    const distances = [0.1, 0.3, 1, 3].map((strength) => frechetDistance(one, noisy(strength)));
    expect([...distances].sort((x, y) => x - y)).toEqual(distances);
    expect(relative(frechetDistance(noisy(1), one), distances[2])).toBeLessThan(1e-9);
  });

  test('refuses what cannot be compared', () => {
    const one = gaussian(features('a', 10, 3), 3);
    expect(() => frechetDistance(one, gaussian(features('a', 10, 4), 4))).toThrow(/cannot be compared/);
    const broken = { ...one, mean: Float64Array.of(1, Number.NaN, 0) };
    expect(() => frechetDistance(one, broken)).toThrow(/not finite/);
  });
});

describe('statistics that stream', () => {
  test('any division and any order give the same', () => {
    const [rows, width] = [700, 9];
    const all = features('a', rows, width);
    const whole = gaussian(all, width);
    const parts = [0, 1, 5, 300, 301, 640, 700].map((at) => at * width);
    const statistics = parts.slice(1).map((end, i) => {
      const part = new GaussianStatistics(width);
      part.add(all.subarray(parts[i], end));
      return part;
    });
    const merged = new GaussianStatistics(width);
    for (const part of statistics.reverse()) merged.merge(part);
    expect(merged.count).toBe(rows);
    const found = merged.finish();
    for (const name of ['mean', 'covariance'] as const) {
      for (const [i, x] of found[name].entries()) expect(Math.abs(x - whole[name][i])).toBeLessThan(1e-10);
    }
  });

  test('refuses features that are no numbers, and too few rows', () => {
    const statistics = new GaussianStatistics(2);
    expect(() => statistics.add([1, 2, 3, Number.NaN])).toThrow(/feature 1 of row 1 is NaN/);
    expect(statistics.count).toBe(0);
    statistics.add([1, 2]);
    expect(() => statistics.finish()).toThrow(/at least two/);
  });
});

test('eigenvalues: of a matrix whose eigenvalues are known, and of diagonal ones', () => {
  const n = 30;
  // The second difference matrix: 2 - 2 cos(k pi / (n + 1)).
  const matrix = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    matrix[i * n + i] = 2;
    if (i > 0) matrix[i * n + i - 1] = -1;
  }
  for (const [k, value] of symmetricEigenvalues(matrix, n).entries()) {
    expect(value).toBeCloseTo(2 - 2 * Math.cos(((k + 1) * Math.PI) / (n + 1)), 12);
  }
  expect([...symmetricEigenvalues(Float64Array.of(3, 0, 0, 0, -1, 0, 0, 0, 2), 3)]).toEqual([-1, 2, 3]);
  expect([...symmetricEigenvalues(Float64Array.of(5), 1)]).toEqual([5]);
});

test('precision and recall', async () => {
  const backend = createReferenceBackend();
  const a = features('a', 120, 16);
  const found = await precisionRecall(a, features('b', 150, 16), { width: 16, backend });
  expect([found.precision, found.recall]).toEqual(reference.precisionRecall['120 150 16']);
  const rows = features('a', 270, 16);
  const near = rows.subarray(120 * 16).map((x) => 1.25 * x);
  const { precision, recall } = await precisionRecall(rows.subarray(0, 120 * 16), near, {
    width: 16,
    backend,
  });
  const [expectedPrecision, expectedRecall] = reference.precisionRecall.near;
  expect(precision).toBeCloseTo(expectedPrecision, 10);
  expect(recall).toBeCloseTo(expectedRecall, 10);
});

test('kernel distance: one subset of all rows; on a backend, in float32', async () => {
  const [a, b] = [features('a', 60, 16), features('b', 60, 16)];
  const found = await kernelDistance(a, b, { width: 16, subsets: 1 });
  expect(relative(found.mean, reference.kernelDistance['60 16'])).toBeLessThan(1e-9);
  const backend = createReferenceBackend();
  const rounded = await kernelDistance(a, b, { width: 16, subsets: 1, backend });
  expect(relative(rounded.mean, found.mean)).toBeLessThan(1e-5);
});

test('inception score in splits', () => {
  const logits = Float32Array.from(numbers('logits', 90 * 12), (x) => 4 * x);
  const found = inceptionScore(logits, { classes: 12, splitSize: 40 });
  const [mean, deviation] = reference.inceptionScore['90 12'];
  expect(relative(found.mean, mean)).toBeLessThan(1e-6);
  expect(relative(found.deviation, deviation)).toBeLessThan(1e-5);
});

test('SSIM and PSNR of scikit-image', () => {
  const x = numbers('image', 3 * 20 * 17);
  const noise = numbers('noise', 3 * 20 * 17);
  const y = x.map((value, i) => Math.min(1, Math.max(-1, value + 0.3 * noise[i])));
  const size = { channels: 3, height: 20, width: 17 };
  expect(relative(ssim(y, x, size), reference.images.ssim)).toBeLessThan(1e-6);
  expect(relative(psnr(y, x), reference.images.psnr)).toBeLessThan(1e-6);
  expect(ssim(x, x, size)).toBeCloseTo(1, 12);
});
