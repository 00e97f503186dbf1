import {
  type Backend,
  checkOptions,
  DetailFlowError,
  type ImageTokenizer,
  type TokenModel,
} from '@detailflow/core';
import { differentClass } from './class-names';
import { type Comparison, classAgreement, compareFeatures, type Reference } from './comparison';
import type { Extractor, Features } from './extractor';
import { collectFeatures, type FeatureSet, featureShards } from './feature-set';
import {
  type ByteImages,
  type GeneratedOptions,
  generatedSource,
  type ImageSource,
  keptSource,
  type PictureLabels,
  pixelShards,
} from './image-source';
import { firstPictureSeeds } from './picture-seeds';
import { missingBatches, noStore, type ShardIdentity, type ShardStore } from './shard-store';

/** Settings of the sampler other than the guidance scale. */
export type SamplingOptions = Pick<GeneratedOptions, 'guidance' | 'temperature' | 'topK' | 'topP'>;

/** Options of an evaluation of generated pictures. */
export interface GenerationOptions {
  readonly model: TokenModel;
  readonly tokenizer: ImageTokenizer;
  readonly classes: number;
  /** Their names, where they are known: a network that calls them otherwise says nothing of the class asked for. */
  readonly classNames?: readonly string[];
  /** Pictures for each guidance scale and seed, at most 1,000,000. */
  readonly count: number;
  readonly scales: readonly number[];
  /**
   * Default [0]. Two or more show how far figures spread by chance: their pictures are all different, see
   * {@link firstPictureSeeds}.
   */
  readonly seeds?: readonly number[];
  /** Default `balanced`: image i is of class i mod classes. */
  readonly labels?: PictureLabels;
  readonly sampling?: SamplingOptions;
  /** Side at which tokens are decoded; what they are worth if omitted. */
  readonly size?: number;
  /** Pictures are resized to this side (bicubic) before anything looks at them. */
  readonly evalSize?: number;
  readonly extractor: Extractor;
  readonly real: Reference;
  readonly backend: Backend;
  /** Default: nothing is kept. */
  readonly store?: ShardStore;
  /** Keeps the pictures in the store, too. */
  readonly keepPictures?: boolean;
  /** Who draws and looks, if not this process: many machines, whose results are summed up here in the same order. */
  readonly elsewhere?: DrawnElsewhere;
  /** Told when a guidance scale and seed is done. */
  readonly onRow?: (row: GenerationRow, drawn: DrawnPictures) => void | Promise<void>;
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Pictures first .. first + count - 1 of a row: they go through the networks together. */
export interface DrawnBatch {
  /** Rows are numbered scale by scale, and seed by seed in them. */
  readonly row: number;
  readonly first: number;
  readonly count: number;
}

/** Draws pictures and computes their features somewhere else. */
export interface DrawnElsewhere {
  /** All batches that will be asked for, in this order: those that the store does not have. */
  begin(batches: readonly DrawnBatch[]): Promise<void>;
  /** Features of a batch, in the order of its pictures. */
  features(batch: DrawnBatch): Promise<Features>;
  /** Asked for with `keepPictures` only. */
  pictures(batch: DrawnBatch): Promise<ByteImages>;
  /** Nothing of a row is asked for any more. */
  finish(row: number): Promise<void>;
}

/** The pictures of a row. */
export interface DrawnPictures {
  readonly source: ImageSource;
  readonly features: FeatureSet;
}

/** The figures of one guidance scale and seed. */
export interface GenerationRow extends Comparison {
  readonly cfg: number;
  readonly seed: number;
  /** Picture i was drawn with the seed firstSeed + i. */
  readonly firstSeed: number;
  /** Where the network knows the classes: the share of pictures that it takes for the class that was asked for. */
  readonly agreement?: { readonly all: number; readonly byClass: readonly number[] };
  /** Of drawing and looking, 0 where the features were kept. */
  readonly seconds: number;
}

/**
 * Draws pictures at every guidance scale with every seed, and compares them with real images.
 * @throws DetailFlowError as {@link firstPictureSeeds}, sampler, networks and {@link compareFeatures}
 * @see https://detailflow.github.io/detailflow-ts/guide/evaluate.html
 */
export async function evaluateGeneration(options: GenerationOptions): Promise<GenerationRow[]> {
  checkOptions('evaluateGeneration', options, {
    model: true,
    tokenizer: true,
    classes: true,
    classNames: true,
    labels: true,
    count: true,
    scales: true,
    seeds: true,
    ...{ sampling: true, size: true, evalSize: true },
    extractor: true,
    real: true,
    backend: true,
    store: true,
    keepPictures: true,
    elsewhere: true,
    onRow: true,
    signal: true,
    onProgress: true,
  });
  const { model, tokenizer, classes, count, scales, seeds = [0], sampling, extractor } = options;
  const { labels, real, backend, store = noStore, keepPictures = false, onRow, signal, onProgress } = options;
  const { size, evalSize, elsewhere } = options;
  const side = evalSize ?? size ?? tokenizer.resolution(model.tokens);
  const firstSeeds = firstPictureSeeds(seeds, count);
  const twice = scales.find((cfg, i) => scales.indexOf(cfg) !== i);
  if (twice !== undefined) {
    throw new DetailFlowError('invalid-argument', `the guidance scale ${twice} is given twice`);
  }
  const knowsClasses = extractor.classes === classes;
  const different = knowsClasses
    ? differentClass(
        { of: 'the model', names: options.classNames },
        { of: 'the network', names: extractor.classNames },
      )
    : undefined;
  const planned = scales.flatMap((cfg) => seeds.map((seed, i) => ({ cfg, seed, firstSeed: firstSeeds[i] })));
  const sourceOf = (row: number): ImageSource => {
    const { cfg, firstSeed } = planned[row];
    const drawn = generatedSource({
      ...{ ...sampling, model, tokenizer, count, classes, labels, cfg, size, evalSize },
      seed: firstSeed,
    });
    if (!keepPictures) return drawn;
    const far = elsewhere && {
      read: (first: number, part: number) => elsewhere.pictures({ row, first, count: part }),
    };
    return keptSource({ ...drawn, ...far }, store, { height: side, width: side });
  };
  if (elsewhere) {
    const batches: DrawnBatch[] = [];
    for (const row of planned.keys()) {
      const source = sourceOf(row);
      const jobs = [featureShards(source, extractor), ...(keepPictures ? [pixelShards(source)] : [])];
      batches.push(...(await missing(jobs, store)).map((one) => ({ row, ...one })));
    }
    await elsewhere.begin(batches);
  }
  const rows: GenerationRow[] = [];
  for (const [index, { cfg, seed, firstSeed }] of planned.entries()) {
    const source = sourceOf(index);
    const started = performance.now();
    const features = await collectFeatures(source, {
      ...{ extractor, store, signal, onProgress },
      ...(elsewhere && {
        elsewhere: (first: number, part: number) => elsewhere.features({ row: index, first, count: part }),
      }),
    });
    const seconds = (performance.now() - started) / 1000;
    const comparison = await compareFeatures(features, real, { backend, signal });
    const row = {
      ...{ cfg, seed, firstSeed, ...comparison },
      ...(different !== undefined && {
        warnings: [
          ...comparison.warnings,
          `whether the class is the one asked for is not said: ${different}`,
        ],
      }),
      ...(knowsClasses && different === undefined && { agreement: classAgreement(features) }),
      seconds,
    };
    rows.push(row);
    await onRow?.(row, { source, features });
    await elsewhere?.finish(index);
  }
  return rows;
}

/** The batches that the store lacks in any of some jobs, in order. */
async function missing(
  jobs: readonly ShardIdentity[],
  store: ShardStore,
): Promise<Omit<DrawnBatch, 'row'>[]> {
  const counts = new Map<number, number>();
  for (const job of jobs) {
    for await (const { first, count } of missingBatches(store, job)) counts.set(first, count);
  }
  return [...counts].sort(([a], [b]) => a - b).map(([first, count]) => ({ first, count }));
}

/** A figure over seeds: its mean, and half the distance between the least and the most. */
export interface Spread {
  readonly mean: number;
  readonly spread: number;
}

/** Of every guidance scale mean and spread over the seeds. */
export interface ScaleSummary {
  readonly cfg: number;
  readonly frechet: Spread;
  readonly inceptionScore?: Spread;
  readonly precision?: Spread;
  readonly recall?: Spread;
  readonly kernelDistance?: Spread;
  readonly spatialFrechet?: Spread;
  readonly agreement?: Spread;
}

/** Sums up the rows of {@link evaluateGeneration} over their seeds. */
export function summariseScales(rows: readonly GenerationRow[]): ScaleSummary[] {
  return [...new Set(rows.map(({ cfg }) => cfg))].map((cfg) => {
    const some = rows.filter((row) => row.cfg === cfg);
    const over = (figure: (row: GenerationRow) => number | undefined): Spread | undefined => {
      const values = some.map(figure);
      if (!values.every((value) => value !== undefined)) return undefined;
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return { mean, spread: (Math.max(...values) - Math.min(...values)) / 2 };
    };
    const optional = Object.entries({
      inceptionScore: over((row) => row.inceptionScore),
      spatialFrechet: over((row) => row.spatialFrechet),
      precision: over((row) => row.precision),
      recall: over((row) => row.recall),
      kernelDistance: over((row) => row.kernelDistance),
      agreement: over((row) => row.agreement?.all),
    }).filter(([, spread]) => spread !== undefined);
    return {
      cfg,
      frechet: over((row) => row.frechet) as Spread,
      ...Object.fromEntries(optional),
    };
  });
}
