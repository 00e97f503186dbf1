import { type Backend, DetailFlowError } from '@detailflow/core';
import type { Extractor } from './extractor';
import { frechetDistance } from './frechet-distance';
import { type Gaussian, GaussianStatistics } from './gaussian-statistics';
import type { ImageSource } from './image-source';
import { inceptionScore } from './inception-score';
import { kernelDistance } from './kernel-distance';
import { precisionRecall } from './precision-recall';

/** Features of all images of a source. */
export interface FeatureSet {
  readonly count: number;
  readonly width: number;
  readonly spatialWidth?: number;
  readonly classes: number;
  /** [count, width] */
  readonly pool: Float32Array;
  /** [count, spatialWidth] */
  readonly spatial?: Float32Array;
  /** [count, classes] */
  readonly logits: Float32Array;
  readonly labels: Int32Array;
}

export interface CollectOptions {
  readonly extractor: Extractor;
  /** Images at a time; default 64. */
  readonly batch?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Features of images first .. first + count - 1 of a source. */
export async function collectFeatures(
  source: ImageSource,
  options: CollectOptions & { readonly first?: number; readonly count?: number },
): Promise<FeatureSet> {
  const { extractor, batch = 64, signal, onProgress, first = 0 } = options;
  const { width, spatialWidth, classes } = extractor;
  const count = options.count ?? source.labels.length - first;
  const pool = new Float32Array(count * width);
  const spatial = spatialWidth === undefined ? undefined : new Float32Array(count * spatialWidth);
  const logits = new Float32Array(count * classes);
  for (let at = 0; at < count; at += batch) {
    signal?.throwIfAborted();
    const size = Math.min(batch, count - at);
    const found = await extractor.extract(await source.read(first + at, size, { signal }), { signal });
    pool.set(found.pool, at * width);
    logits.set(found.logits, at * classes);
    if (spatial && found.spatial && spatialWidth) spatial.set(found.spatial, at * spatialWidth);
    onProgress?.(at + size, count);
  }
  const labels = source.labels.slice(first, first + count);
  return { count, width, spatialWidth, classes, pool, spatial, logits, labels };
}

/** Mean and covariance of the features. */
export function featureGaussian(features: Float32Array, width: number): Gaussian {
  const statistics = new GaussianStatistics(width);
  statistics.add(features);
  return statistics.finish();
}

/** How generated images compare with real ones. */
export interface Comparison {
  /** FID where the features are Inception's. */
  readonly frechet: number;
  readonly spatialFrechet?: number;
  readonly inceptionScore: number;
  readonly inceptionScoreDeviation: number;
  readonly precision: number;
  readonly recall: number;
  readonly kernelDistance: number;
  readonly kernelDistanceDeviation: number;
  /** What a reader should know: too few images, for example. */
  readonly warnings: readonly string[];
}

export interface CompareOptions {
  /** Multiplies matrices for precision and recall. */
  readonly backend: Backend;
  /** Images of a split of the inception score; default 5000. */
  readonly splitSize?: number;
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/**
 * All figures of generated images against real ones.
 * @throws DetailFlowError `shape` when the features are of different networks
 */
export async function compareFeatures(
  generated: FeatureSet,
  real: FeatureSet,
  options: CompareOptions,
): Promise<Comparison> {
  const { backend, splitSize, seed, signal } = options;
  const { width, spatialWidth } = generated;
  if (real.width !== width || real.spatialWidth !== spatialWidth) {
    throw new DetailFlowError(
      'shape',
      `features of ${width} and ${real.width} values are of different networks`,
    );
  }
  const score = inceptionScore(generated.logits, { classes: generated.classes, splitSize });
  const kernel = kernelDistance(generated.pool, real.pool, { width, seed });
  const { precision, recall } = await precisionRecall(real.pool, generated.pool, { width, backend, signal });
  const spatial =
    generated.spatial && real.spatial && spatialWidth
      ? frechetDistance(
          featureGaussian(generated.spatial, spatialWidth),
          featureGaussian(real.spatial, spatialWidth),
        )
      : undefined;
  return {
    frechet: frechetDistance(featureGaussian(generated.pool, width), featureGaussian(real.pool, width)),
    ...(spatial !== undefined && { spatialFrechet: spatial }),
    inceptionScore: score.mean,
    inceptionScoreDeviation: score.deviation,
    precision,
    recall,
    kernelDistance: kernel.mean,
    kernelDistanceDeviation: kernel.deviation,
    warnings: [generated, real].flatMap(({ count }, i) =>
      count <= width
        ? [
            `${count} ${i === 0 ? 'generated' : 'real'} images are too few for a covariance of ${width} features: ` +
              'the Frechet distance is biased upwards',
          ]
        : [],
    ),
  };
}

/** Share of the images whose most likely class is the one that they should be of; and by class. */
export function classAgreement({ logits, labels, classes }: FeatureSet): { all: number; byClass: number[] } {
  const hits = new Float64Array(classes);
  const counts = new Float64Array(classes);
  for (const [i, label] of labels.entries()) {
    const row = logits.subarray(i * classes, (i + 1) * classes);
    let best = 0;
    for (let c = 1; c < classes; c++) if (row[c] > row[best]) best = c;
    counts[label]++;
    if (best === label) hits[label]++;
  }
  const total = hits.reduce((a, b) => a + b, 0);
  return { all: total / labels.length, byClass: Array.from(hits, (hit, c) => hit / counts[c]) };
}

/**
 * The nearest of `among` to each of some images, by squared distance of the features.
 * @param of features [n, width]
 * @returns indices into `among`
 */
export function nearestNeighbours(of: Float32Array, among: Float32Array, width: number): Uint32Array {
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
