import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, type Executable, Tensor } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { describe, expect, test } from 'vitest';
import { exactNumbers as numbers } from '../../../tests/numbers-by-formula';
import { nearestNeighbours } from './comparison';
import { frechetDistance } from './frechet-distance';
import { GaussianStatistics } from './gaussian-statistics';
import { inceptionScore } from './inception-score';
import { kernelDistance } from './kernel-distance';
import { precisionRecall } from './precision-recall';
import { psnr } from './psnr';
import { ssim } from './ssim';
import { symmetricEigenvalues } from './symmetric-eigenvalues';

/** By SciPy, scikit-learn and scikit-image: tools/reference/eval-metrics.py. */
const reference = JSON.parse(
  readFileSync(new URL('../../../tests/fixtures/eval-metrics.json', import.meta.url), 'utf8'),
);

function features(name: string, rows: number, width: number, hasMean = true): Float32Array {
  const mix = numbers(`${name}/mix`, width * width).map((x) => x / Math.sqrt(width));
  const [x, means] = [numbers(name, rows * width), numbers(`${name}/mean`, width)];
  const mean = hasMean ? means : means.fill(0);
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
    // sqrtm of a product without full rank is right to fewer digits.
    expect(relative(deficient, reference.frechet['deficient, sqrtm'])).toBeLessThan(1e-5);
  });

  test.each([
    ['float32', 400, 64],
    ['float32, deficient', 20, 48],
  ])('statistics kept in float32: %s', (name, rows, width) => {
    const [a, b] = ['a', 'b'].map((set, i) => {
      const { mean, covariance } = gaussian(features(set, rows + 10 * i, width), width);
      return { mean: Float64Array.from(mean, Math.fround), covariance: covariance.map(Math.fround) };
    });
    expect(relative(frechetDistance(a, b), reference.frechet[name])).toBeLessThan(1e-5);
    expect(Math.abs(frechetDistance(a, a))).toBeLessThan(1e-4);
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

/** Pairs of sets [real, generated] as the script makes them. */
function overlappingSets(): Record<string, [Float32Array, Float32Array]> {
  const width = 16;
  const rows = features('a', 400, width, false);
  const part = (from: number, to: number) => rows.slice(from * width, to * width);
  const plus = (set: Float32Array, offset: (row: number) => number) =>
    set.map((x, at) => x + offset(Math.floor(at / width)));
  const wider = part(180, 400).map((x) => 1.25 * x);
  const far = () => 4096;
  const cluster = (row: number) => (row % 2) * 3000;
  const pick = (count: number, row: (i: number) => number) =>
    Float32Array.from(
      { length: count * width },
      (_, at) => rows[row(Math.floor(at / width)) * width + (at % width)],
    );
  return {
    'equal spread': [part(0, 200), part(200, 400)],
    wider: [part(0, 180), wider],
    'equal spread, far from 0': [plus(part(0, 200), far), plus(part(200, 400), far)],
    'wider, far from 0': [plus(part(0, 180), far), plus(wider, far)],
    'two clusters': [plus(part(0, 200), cluster), plus(part(200, 400), cluster)],
    'one side far': [part(0, 200), plus(part(200, 400), far)],
    copies: [part(0, 120), Float32Array.of(...part(60, 120), ...part(0, 60))],
    'repeated rows': [pick(150, (i) => Math.floor(i / 5)), pick(120, (i) => Math.floor(i / 3) + 10)],
  };
}

describe('precision and recall of scikit-learn', () => {
  const sets = overlappingSets();
  test('all cases are here', () => {
    expect(Object.keys(sets)).toEqual(Object.keys(reference.precisionRecall));
  });

  test.each(Object.keys(sets))('%s', async (name) => {
    const found = await precisionRecall(...sets[name], { width: 16, backend: createReferenceBackend() });
    expect([found.precision, found.recall]).toEqual(reference.precisionRecall[name]);
  });

  test('a backend that rounds products to 11 bits, or overflows, changes nothing', async () => {
    const backend = createReferenceBackend();
    const rounding = (round: (x: number) => number): Backend => ({
      ...backend,
      async compile(graph, weights) {
        const executable = await backend.compile(graph, weights);
        return {
          ...executable,
          dispose: () => executable.dispose(),
          async run(feeds, options) {
            const short = Object.entries(feeds).map(([name, { data, dims }]) => {
              const values = Float32Array.from(data as Float32Array, round);
              return [name, new Tensor('float32', values, dims)] as const;
            });
            return executable.run(Object.fromEntries(short), options);
          },
        } as Executable;
      },
    });
    const elevenBits = (x: number) => {
      const unit = 2 ** (Math.floor(Math.log2(Math.abs(x) || 1)) - 10);
      return unit * Math.round(x / unit);
    };
    const expected = reference.precisionRecall.wider;
    for (const round of [elevenBits, (x: number) => x * 1e25]) {
      const found = await precisionRecall(...sets.wider, { width: 16, backend: rounding(round) });
      expect([found.precision, found.recall]).toEqual(expected);
    }
  });

  test('features that are not finite are refused', async () => {
    const backend = createReferenceBackend();
    const broken = sets.wider[0].slice();
    broken[35] = Number.NaN;
    for (const [one, other] of [
      [broken, sets.wider[1]],
      [sets.wider[1], broken],
    ] as const) {
      const place = /feature 3 of row 2 is NaN/;
      await expect(precisionRecall(one, other, { width: 16, backend })).rejects.toThrow(place);
      await expect(kernelDistance(one, other, { width: 16, backend })).rejects.toThrow(place);
      expect(() => nearestNeighbours(one, other, 16)).toThrow(place);
    }
  });
});

describe('kernel distance: one subset of all rows', () => {
  const [width, subsets] = [16, 1];
  test('of scikit-learn; on a backend, in float32', async () => {
    const [a, b] = [features('a', 60, width), features('b', 60, width)];
    const found = await kernelDistance(a, b, { width, subsets });
    expect(relative(found.mean, reference.kernelDistance['60 16'])).toBeLessThan(1e-9);
    const backend = createReferenceBackend();
    const rounded = await kernelDistance(a, b, { width, subsets, backend });
    expect(relative(rounded.mean, found.mean)).toBeLessThan(1e-6);
  });

  test.each([0, 16, 1024, 65536])('near sets, %i from 0', async (offset) => {
    const set = (rows: Float32Array) => rows.map((x) => x + offset);
    const all = features('a', 120, width, false);
    const a = set(all.slice(0, 60 * width));
    const b = set(all.slice(60 * width).map((x) => Math.fround(1.1) * x));
    const expected = reference.kernelDistance[offset === 0 ? 'near' : `near, ${offset} from 0`];
    const found = await kernelDistance(a, b, { width, subsets });
    expect(relative(found.mean, expected)).toBeLessThan(1e-8);
    const backend = await createNodeBackend();
    try {
      const rounded = await kernelDistance(a, b, { width, subsets, backend });
      expect(relative(rounded.mean, expected)).toBeLessThan(1e-4);
    } finally {
      await backend.close?.();
    }
  });

  test('of a set and itself is below 0, since a row and its copy are a pair across and none within; left so', async () => {
    const rows = features('a', 100, width, false);
    expect((await kernelDistance(rows, rows, { width, subsets })).mean).toBeLessThan(0);
  });
});

test('inception score in splits', () => {
  const score = (factor: number) => {
    const logits = Float32Array.from(numbers('logits', 90 * 12), (x) => factor * x);
    return inceptionScore(logits, { classes: 12, splitSize: 40 });
  };
  for (const [name, factor] of [
    ['90 12', 4],
    ['sure', 200], // probabilities that underflow to 0
  ] as const) {
    const [mean, deviation] = reference.inceptionScore[name];
    expect(relative(score(factor).mean, mean)).toBeLessThan(1e-6);
    expect(relative(score(factor).deviation, deviation)).toBeLessThan(1e-5);
  }
  expect(() => inceptionScore(Float32Array.of(1, Number.NaN), { classes: 2 })).toThrow(
    /logit 1 of row 0 is NaN/,
  );
});

describe('SSIM and PSNR of scikit-image', () => {
  const [height, width] = [48, 40];
  const size = { channels: 3, height, width };
  const { original, ...restored } = photographs(height, width);
  /** As the pipeline of an evaluation makes values of bytes. */
  const values = (bytes: Uint8Array) => Float32Array.from(bytes, (byte) => byte / 127.5 - 1);
  test.each(Object.keys(restored))('%s', (name) => {
    const { official, officialIn64Bits, customary, psnr: expectedPsnr } = reference.images[name];
    const pair = [values(restored[name as keyof typeof restored]), values(original)] as const;
    expect(Math.abs(ssim(...pair, size) - official)).toBeLessThan(1e-6);
    expect(Math.abs(ssim(...pair, size) - officialIn64Bits)).toBeLessThan(1e-7);
    expect(Math.abs(ssim(...pair, { ...size, dataRange: 1 }) - customary)).toBeLessThan(1e-7);
    if (expectedPsnr === null) expect(psnr(...pair)).toBe(Number.POSITIVE_INFINITY);
    else expect(Math.abs(psnr(...pair) - expectedPsnr)).toBeLessThan(1e-5);
  });

  test('refuses images that are too small, and no range', () => {
    const image = new Float32Array(3 * 6 * 9);
    expect(() => ssim(image, image, { channels: 3, height: 6, width: 9 })).toThrow(/sides of 7/);
    expect(() => ssim(values(original), values(original), { ...size, dataRange: 0 })).toThrow(/dataRange/);
  });
});

/** Bytes [3, height, width] as the script makes them. */
function photographs(height: number, width: number) {
  const plane = height * width;
  const cut = (value: (at: number) => number) =>
    Uint8Array.from({ length: 3 * plane }, (_, at) => Math.min(255, Math.max(0, Math.floor(value(at)))));
  const place = (at: number) => [Math.floor(at / plane), Math.floor((at % plane) / width), at % width];
  const [rows, columns] = [height / 8, width / 8];
  const blocks = numbers('photo/blocks', 3 * rows * columns);
  const [fine, noise] = [numbers('photo/fine', 3 * plane), numbers('photo/noise', 3 * plane)];
  const original = cut((at) => {
    const [c, y, x] = place(at);
    return 128 + 90 * blocks[(c * rows + (y >> 3)) * columns + (x >> 3)] + 30 * fine[at];
  });
  const blurred = cut((at) => {
    const [c, y, x] = place(at);
    let sum = 0;
    for (const dy of [-1, 0, 1]) {
      for (const dx of [-1, 0, 1]) {
        const row = Math.min(height - 1, Math.max(0, y + dy));
        sum += original[c * plane + row * width + Math.min(width - 1, Math.max(0, x + dx))];
      }
    }
    return sum / 9;
  });
  return {
    original,
    noisy: cut((at) => original[at] + 26 * noise[at]),
    blurred,
    black: new Uint8Array(3 * plane),
    itself: original,
  };
}
