import { type Backend, checkOptions, DetailFlowError } from '@detailflow/core';
import type { FeatureSet, FeatureStatistics } from './feature-set';
import { requireFinite } from './finite-features';
import { frechetDistance } from './frechet-distance';
import { KERNEL_SUBSET, kernelDistance } from './kernel-distance';
import { precisionRecall } from './precision-recall';
import { RowSet } from './row-set';

/** What images are compared with: statistics, and where the images are at hand their features. */
export interface Reference {
  readonly statistics: FeatureStatistics;
  /** [n, width] */
  readonly pool?: Float32Array;
  /** The classes of the images. */
  readonly labels?: Int32Array;
}

/** How images compare with real ones. */
export interface Comparison {
  /** FID where the features are Inception's. */
  readonly frechet: number;
  /** sFID. */
  readonly spatialFrechet?: number;
  /** Where the network knows classes. */
  readonly inceptionScore?: number;
  readonly inceptionScoreDeviation?: number;
  /** These four only where the features of the real images are at hand. */
  readonly precision?: number;
  readonly recall?: number;
  readonly kernelDistance?: number;
  readonly kernelDistanceDeviation?: number;
  /** Of every class the share of its images that are within reach of real ones. */
  readonly precisionByClass?: readonly number[];
  /** What a reader should know: too few images, for example. */
  readonly warnings: readonly string[];
}

/** Share of copies that a large set may well have. */
const MOST_COPIES = 0.01;

/** How two sets of features are compared. */
export interface CompareOptions {
  /** Multiplies matrices for precision, recall and KID. */
  readonly backend: Backend;
  /** Chooses the subsets of KID; default 0. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/**
 * All figures of images against real ones.
 * @throws DetailFlowError `shape` when the features are of different networks; `invalid-argument` with too few images
 */
export async function compareFeatures(
  images: FeatureSet,
  real: Reference,
  options: CompareOptions,
): Promise<Comparison> {
  checkOptions('compareFeatures', options, { backend: true, seed: true, signal: true });
  const { backend, seed, signal } = options;
  const { width, count, pool, statistics } = images;
  const other = real.statistics.pool.mean.length;
  if (other !== width) {
    throw new DetailFlowError('shape', `features of ${width} and ${other} values are of different networks`);
  }
  const spatial =
    statistics.spatial && real.statistics.spatial
      ? frechetDistance(statistics.spatial, real.statistics.spatial)
      : undefined;
  const kernel = real.pool && (await kernelDistance(pool, real.pool, { width, seed, backend, signal }));
  const near = real.pool && (await precisionRecall(real.pool, pool, { width, backend, signal }));
  const realCount = real.pool && real.pool.length / width;
  return {
    frechet: frechetDistance(statistics.pool, real.statistics.pool),
    ...(spatial !== undefined && { spatialFrechet: spatial }),
    ...(images.inceptionScore && {
      inceptionScore: images.inceptionScore.mean,
      inceptionScoreDeviation: images.inceptionScore.deviation,
    }),
    ...(kernel && { kernelDistance: kernel.mean, kernelDistanceDeviation: kernel.deviation }),
    ...(near && {
      precision: near.precision,
      recall: near.recall,
      precisionByClass: shareByClass(near.isPrecise, images.labels),
    }),
    warnings: [
      ...tooFew(count, 'images', width),
      ...(realCount === undefined ? [] : tooFew(realCount, 'real images', width)),
      ...(realCount === undefined ? [] : tooFewForSubsets(Math.min(count, realCount))),
      ...copied(pool, real.pool, width),
    ],
  };
}

function tooFew(count: number, what: string, width: number): string[] {
  if (count > width) return [];
  return [
    `${count} ${what} are too few for a covariance of ${width} features: the Frechet distance is biased upwards`,
  ];
}

function tooFewForSubsets(count: number): string[] {
  if (count > KERNEL_SUBSET) return [];
  return [
    `KID: subsets of ${KERNEL_SUBSET} are the rule, and one side has ${count} images: its deviation over subsets says little`,
  ];
}

/** Pictures that count twice, or lie on both sides, make figures that look like any other. */
function copied(pool: Float32Array, real: Float32Array | undefined, width: number): string[] {
  const [own, others] = [pool, real ?? new Float32Array(0)].map((rows) => new RowSet(rows, width));
  const told = (copies: number, rows: number, text: string) =>
    copies > MOST_COPIES * rows ? [`${copies} of ${rows} ${text}`] : [];
  const [count, realCount] = [pool.length / width, (real?.length ?? 0) / width];
  return [
    ...told(
      own.repeated,
      count,
      'images have the very features of an earlier one: copies count as often as they are there',
    ),
    ...told(
      others.repeated,
      realCount,
      'real images have the very features of an earlier one: copies count as often',
    ),
    ...told(
      others.shared(pool),
      count,
      'images have the very features of a real one: the same pictures seem to be on both sides',
    ),
  ];
}

/** Share of the images whose most likely class is the one that they should be of; and by class. */
export function classAgreement({ predicted, labels }: Pick<FeatureSet, 'predicted' | 'labels'>): {
  all: number;
  byClass: number[];
} {
  const hits = Uint8Array.from(labels, (label, i) => Number(predicted[i] === label));
  return { all: hits.reduce((sum, hit) => sum + hit, 0) / hits.length, byClass: shareByClass(hits, labels) };
}

/** Of every class the share of hits among its images; NaN where it has none. */
function shareByClass(hits: Uint8Array, labels: Int32Array): number[] {
  const classes = labels.reduce((most, label) => Math.max(most, label + 1), 0);
  const [found, counts] = [new Float64Array(classes), new Float64Array(classes)];
  for (const [i, label] of labels.entries()) {
    counts[label]++;
    found[label] += hits[i];
  }
  return Array.from(found, (sum, label) => sum / counts[label]);
}

/**
 * The nearest of `among` to each of some images, by squared distance of the features.
 * @param of features [n, width]
 * @returns indices into `among`
 * @throws DetailFlowError `shape`; `invalid-argument` when a feature is not finite
 */
export function nearestNeighbours(of: Float32Array, among: Float32Array, width: number): Uint32Array {
  for (const features of [of, among]) requireFinite(features, width);
  const [n, m] = [of.length / width, among.length / width];
  return Uint32Array.from({ length: n }, (_, i) => {
    let [best, least] = [0, Number.POSITIVE_INFINITY];
    for (let j = 0; j < m; j++) {
      let sum = 0;
      for (let k = 0; k < width && sum < least; k++) sum += (of[i * width + k] - among[j * width + k]) ** 2;
      if (sum < least) [best, least] = [j, sum];
    }
    return best;
  });
}
