import { checkOptions } from '@detailflow/core';
import type { Extractor, Features } from './extractor';
import { type Gaussian, GaussianStatistics } from './gaussian-statistics';
import type { ImageSource } from './image-source';
import { InceptionScore } from './inception-score';
import {
  BATCH,
  type Column,
  eachShard,
  noStore,
  parts,
  type Shard,
  type ShardIdentity,
  type ShardStore,
} from './shard-store';

/** Mean and covariance of the features of images: of the pooled ones, and where there are any the spatial ones. */
export interface FeatureStatistics {
  readonly pool: Gaussian;
  readonly spatial?: Gaussian;
}

/** What the features of the images of a source say. */
export interface FeatureSet {
  readonly count: number;
  readonly width: number;
  readonly classes: number;
  /** [count, width] */
  readonly pool: Float32Array;
  readonly statistics: FeatureStatistics;
  readonly inceptionScore?: { readonly mean: number; readonly deviation: number };
  /** The most likely class of every image. */
  readonly predicted: Int32Array;
  /** The class that every image is of. */
  readonly labels: Int32Array;
}

/** How features of images are collected. */
export interface CollectOptions {
  readonly extractor: Extractor;
  /** Default: nothing is kept. */
  readonly store?: ShardStore;
  /** Images at a time; default 64. */
  readonly batch?: number;
  /**
   * Features of images first .. first + count - 1 that are computed elsewhere: asked for batch by batch, in the order in which they
   * are summed up, which is the same as without. Default: source and network are run here.
   */
  readonly elsewhere?: (first: number, count: number) => Promise<Features>;
  /** Images of a split of the inception score; default 5000. */
  readonly splitSize?: number;
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Features of all images of a source.
 * @throws DetailFlowError `invalid-argument` with fewer than two images, or when a feature is no finite number; what
 *   source and network throw
 */
export async function collectFeatures(source: ImageSource, options: CollectOptions): Promise<FeatureSet> {
  checkOptions('collectFeatures', options, {
    extractor: true,
    store: true,
    batch: true,
    elsewhere: true,
    splitSize: true,
    signal: true,
    onProgress: true,
  });
  const { extractor, store = noStore, batch = BATCH, signal, onProgress } = options;
  const here = async (first: number, count: number) =>
    extractor.extract(await source.read(first, count, { signal }), { signal });
  const { elsewhere: featuresAt = here } = options;
  const { labels } = source;
  const total = labels.length;
  const collector = new FeatureCollector(extractor, { total, splitSize: options.splitSize });
  const shards = eachShard(store, {
    ...featureShards(source, extractor),
    columns: featureColumns(extractor),
    async make(first, count) {
      const columns = emptyColumns(featureColumns(extractor), count);
      for (const one of parts(first, count, batch)) {
        signal?.throwIfAborted();
        fillFeatures(columns, one.first - first, one.count, await featuresAt(one.first, one.count));
        onProgress?.(one.first + one.count, total);
      }
      return columns;
    },
  });
  for await (const { first, count, columns } of shards) {
    collector.add(featuresOf(columns));
    onProgress?.(first + count, total);
  }
  return collector.finish(labels);
}

/** What features of a source are kept under. */
export const featureShards = (source: ImageSource, extractor: Extractor): ShardIdentity => ({
  name: `${extractor.name} ${source.name}`,
  total: source.labels.length,
});

/** Columns that hold the features of a network; `suffix` tells several of them apart. */
export function featureColumns(
  { width, spatialWidth, classes }: Pick<Extractor, 'width' | 'spatialWidth' | 'classes'>,
  suffix = '',
): Column[] {
  return [
    { name: `pool${suffix}`, width },
    { name: `logits${suffix}`, width: classes },
    ...(spatialWidth === undefined ? [] : [{ name: `spatial${suffix}`, width: spatialWidth }]),
  ];
}

/** Room for the values of `count` images. */
export function emptyColumns(columns: readonly Column[], count: number): Record<string, Float32Array> {
  return Object.fromEntries(columns.map(({ name, width }) => [name, new Float32Array(count * width)]));
}

/** Lays the features of `count` images into columns, from image `at` on. */
export function fillFeatures(
  columns: Record<string, Float32Array>,
  at: number,
  count: number,
  { pool, logits, spatial }: Features,
  suffix = '',
): void {
  for (const [name, values] of Object.entries({ pool, logits, spatial })) {
    if (values) columns[`${name}${suffix}`].set(values, (at * values.length) / count);
  }
}

/** Features that lie in columns. */
export function featuresOf(columns: Shard['columns'], suffix = ''): Features {
  const [pool, logits, spatial] = ['pool', 'logits', 'spatial'].map((name) => columns[`${name}${suffix}`]);
  return { pool, logits, spatial } as Features;
}

/** Takes in the features of the images of a source, in order. */
class FeatureCollector {
  readonly #shape: Pick<Extractor, 'width' | 'classes'>;
  readonly #rows: Float32Array;
  readonly #predicted: Int32Array;
  readonly #pool: GaussianStatistics;
  readonly #spatial?: GaussianStatistics;
  readonly #score?: InceptionScore;
  #count = 0;

  constructor(
    shape: Pick<Extractor, 'width' | 'spatialWidth' | 'classes'>,
    { total, splitSize }: { readonly total: number; readonly splitSize?: number },
  ) {
    const { width, spatialWidth, classes } = shape;
    this.#shape = shape;
    this.#rows = new Float32Array(total * width);
    this.#predicted = new Int32Array(total);
    this.#pool = new GaussianStatistics(width);
    if (spatialWidth !== undefined) this.#spatial = new GaussianStatistics(spatialWidth);
    if (classes > 0) this.#score = new InceptionScore({ classes, splitSize });
  }

  add({ pool, logits, spatial }: Features): void {
    const { width, classes } = this.#shape;
    this.#pool.add(pool);
    if (spatial) this.#spatial?.add(spatial);
    this.#score?.add(logits);
    this.#rows.set(pool, this.#count * width);
    for (let at = 0, image = this.#count; at < logits.length; at += classes) {
      this.#predicted[image++] = largest(logits.subarray(at, at + classes));
    }
    this.#count += pool.length / width;
  }

  finish(labels: Int32Array): FeatureSet {
    const { width, classes } = this.#shape;
    return {
      ...{ count: this.#count, width, classes, labels },
      pool: this.#rows,
      statistics: {
        pool: this.#pool.finish(),
        ...(this.#spatial && { spatial: this.#spatial.finish() }),
      },
      ...(this.#score && { inceptionScore: this.#score.finish() }),
      predicted: this.#predicted,
    };
  }
}

function largest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
