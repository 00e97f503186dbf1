import { checkOptions, DetailFlowError, resizeImages, Tensor } from '@detailflow/core';
import {
  type CenterViewOptions,
  evenlySpaced,
  type ImageDataset,
  imageValues,
  subset,
} from '@detailflow/data';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import { CodebookUse } from './codebook-use';
import { keptImages, type RestoringTokenizer } from './correcting-tokenizer';
import type { Extractor } from './extractor';
import { collectFeatures, emptyColumns, featureColumns, featuresOf, fillFeatures } from './feature-set';
import { frechetDistance } from './frechet-distance';
import { GaussianStatistics } from './gaussian-statistics';
import { bytesOf, datasetSource, imageTensor } from './image-source';
import type { PerceptualDistance } from './perceptual-distance';
import { psnr } from './psnr';
import { resizedBicubic } from './resized-bicubic';
import { resizedSource } from './resized-images';
import { type Column, eachShard, noStore, type ShardStore } from './shard-store';
import { ssim } from './ssim';
import { clamped, tokenWorth, worthTarget } from './token-worth';

/** Numbers of tokens at which reconstructions are looked at: 1, 2, 4, ... as far as they exist, and all. */
export function previewCounts(
  config: Pick<TokenizerConfig, 'tokens' | 'causalTokens' | 'groupSize'>,
): number[] {
  const { tokens, causalTokens, groupSize } = config;
  const counts: number[] = [];
  for (let n = 1; n < tokens; n *= 2) if (n <= causalTokens || n % groupSize === 0) counts.push(n);
  return [...counts, tokens];
}

/**
 * The noise indices of the official noisy evaluation: the first tokens of the groups 0, M/4, M/2, 3M/4 and M-1.
 * Source: docs/method.md section 6.
 */
export function noisyIndices({ tokens, groupSize }: Pick<TokenizerConfig, 'tokens' | 'groupSize'>): number[] {
  const groups = Math.floor(tokens / groupSize);
  const quarter = Math.floor(groups / 4);
  const chosen = [0, quarter, Math.floor(groups / 2), 3 * quarter, groups - 1];
  return [...new Set(chosen)].map((group) => group * groupSize);
}

/** A way to restore images. */
export interface Restoration {
  /** Tokens that are decoded. */
  readonly tokens: number;
  /** The token from which on codes are disturbed and corrected, as in training; null for none. */
  readonly noiseIndex: number | null;
}

/**
 * How well images are restored: means over images of figures of the 8-bit images. PSNR and SSIM are taken at the size that
 * the tokens are worth, against the image resized the same way, as the tokenizer is trained: see {@link tokenWorth}. LPIPS
 * and the Frechet distance are of the restored image enlarged to full size, against the image as it is. PSNR is Infinity
 * when an image is restored to the bit. Agreement with the tools that define them: docs/metrics.md.
 */
export interface RestorationFigures extends Restoration {
  /** Side of the decoded image in pixels. */
  readonly size: number;
  /** In dB. */
  readonly psnr: number;
  /** Missing where the decoded image is smaller than SSIM's window of 7 pixels. */
  readonly ssim?: number;
  readonly lpips?: number;
  /** rFID where the features are Inception's. */
  readonly frechet?: number;
}

/** How well a tokenizer restores images. */
export interface TokenizerFigures {
  readonly images: number;
  readonly restorations: readonly RestorationFigures[];
  /** Share of the codebook that the images use; missing, as the perplexity, where there are latents and no codes. */
  readonly usage?: number;
  /** e to the entropy of the codes: as many equally likely codes would be as hard to guess. */
  readonly perplexity?: number;
}

/** Options of an evaluation of a tokenizer. */
export interface TokenizerFigureOptions {
  readonly tokenizer: RestoringTokenizer;
  readonly dataset: ImageDataset;
  readonly view: CenterViewOptions;
  readonly restorations: readonly Restoration[];
  /** Restored images and originals are resized to this side (bicubic) before they are compared; default: compared as they are. */
  readonly evalSize?: number;
  /** Images, evenly spaced; default all. */
  readonly images?: number;
  readonly batch?: number;
  /** For the Frechet distance. */
  readonly extractor?: Extractor;
  /** For LPIPS. */
  readonly perceptual?: PerceptualDistance;
  /** Default: nothing is kept. */
  readonly store?: ShardStore;
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Restores images of a data set in some ways. Source of the figures: docs/method.md section 6.
 * @throws DetailFlowError `invalid-argument` without images, and as tokenizer and networks throw
 * @see https://detailflow.github.io/detailflow-ts/definitions/metrics.html
 */
export async function tokenizerFigures(options: TokenizerFigureOptions): Promise<TokenizerFigures> {
  checkOptions('tokenizerFigures', options, {
    tokenizer: true,
    dataset: true,
    view: true,
    restorations: true,
    evalSize: true,
    images: true,
    batch: true,
    extractor: true,
    perceptual: true,
    store: true,
    signal: true,
    onProgress: true,
  });
  const { tokenizer, view, restorations, extractor, perceptual, store = noStore } = options;
  const { batch = 64, evalSize, signal, onProgress } = options;
  const available = options.dataset.labels.length;
  const total = Math.min(options.images ?? available, available);
  const dataset = someOf(options.dataset, total);
  if (total === 0) throw new DetailFlowError('invalid-argument', 'there are no images to restore');
  const judge = { extractor, perceptual, size: evalSize ?? view.size, signal };
  const codebookSize = 'encode' in tokenizer ? tokenizer.codebookSize : undefined;
  const columns: Column[] = [
    ...(codebookSize === undefined ? [] : [{ name: 'codes', width: tokenizer.tokens }]),
    ...restorations.flatMap((one) => columnsOf(one, judge)),
  ];
  const shards = eachShard(store, {
    name: `${dataset.name} ${JSON.stringify(view)} restored at their worth, ${columns.map(({ name }) => name)}, ${extractor?.name}${evalSize === undefined ? '' : `, compared at ${evalSize}`}`,
    total,
    columns,
    async make(first, count) {
      const values = emptyColumns(columns, count);
      for (let at = 0; at < count; at += batch) {
        signal?.throwIfAborted();
        const size = Math.min(batch, count - at);
        const images = await imageTensor(dataset, view, first + at, size);
        const kept = await keptImages(tokenizer, images, { signal });
        if (kept.codes) values.codes.set(kept.codes.data, at * tokenizer.tokens);
        for (const restoration of restorations) {
          const worth = tokenWorth(tokenizer, restoration.tokens, view.size);
          const pixels = await kept.restore({ ...restoration, size: worth.size, seed: first + at });
          const target = worthTarget(images, worth);
          const seen = { restoration, ...resizedTo(evalSize, { pixels, target, images }) };
          await judgeImages(values, at, { ...seen, ...judge });
        }
        onProgress?.(first + at + size, total);
      }
      return values;
    },
  });
  const sums = restorations.map(() => ({ psnr: 0, ssim: 0, lpips: 0 }));
  const features = restorations.map(() => extractor && new GaussianStatistics(extractor.width));
  const use = codebookSize === undefined ? undefined : new CodebookUse(codebookSize);
  for await (const { first, count, columns: values } of shards) {
    use?.add(values.codes);
    for (const [i, restoration] of restorations.entries()) {
      const suffix = suffixOf(restoration);
      for (const [figure, name] of [
        ['psnr', 'psnr'],
        ['ssim', SSIM],
        ['lpips', 'lpips'],
      ] as const) {
        for (const value of values[`${name}${suffix}`] ?? []) sums[i][figure] += value;
      }
      features[i]?.add(featuresOf(values, suffix).pool);
    }
    onProgress?.(first + count, total);
  }
  const real =
    extractor &&
    (await collectFeatures(resizedSource(datasetSource(dataset, view), evalSize), {
      ...{ extractor, store, batch, signal, onProgress },
    }));
  return {
    images: total,
    restorations: restorations.map((restoration, i) => ({
      ...restoration,
      size: evalSize ?? tokenWorth(tokenizer, restoration.tokens, view.size).size,
      psnr: sums[i].psnr / total,
      ...(Number.isFinite(sums[i].ssim) && { ssim: sums[i].ssim / total }),
      ...(perceptual && { lpips: sums[i].lpips / total }),
      ...(real && {
        frechet: frechetDistance((features[i] as GaussianStatistics).finish(), real.statistics.pool),
      }),
    })),
    ...use?.finish(),
  };
}

/** Restored images, what they should be, and the originals, at the side at which they are compared. */
function resizedTo<T extends Readonly<Record<'pixels' | 'target' | 'images', Tensor<'float32'>>>>(
  side: number | undefined,
  tensors: T,
): T {
  if (side === undefined) return tensors;
  const entries = Object.entries(tensors).map(([name, tensor]) => [name, resizedBicubic(tensor, side)]);
  return Object.fromEntries(entries) as T;
}

/** Side of the windows of {@link ssim}. */
const SSIM_WINDOW = 7;

/** So many images of a data set, evenly spaced, under a name that tells how many. */
const someOf = (dataset: ImageDataset, count: number): ImageDataset =>
  count === dataset.labels.length
    ? dataset
    : subset(dataset, evenlySpaced(dataset.labels.length, count), `${dataset.name}, ${count} of them`);

interface Judge {
  readonly extractor?: Extractor;
  readonly perceptual?: PerceptualDistance;
  readonly size: number;
  readonly signal?: AbortSignal;
}

/** The column of SSIM; its definition is part of the name, so that values of another one are not taken for it. */
const SSIM = 'ssim of [0, 1], range 2';

/** Tells the columns of a restoration from those of others. */
const suffixOf = ({ tokens, noiseIndex }: Restoration) =>
  ` of ${tokens}${noiseIndex === null ? '' : `, noise from ${noiseIndex}`}`;

function columnsOf(restoration: Restoration, { extractor, perceptual }: Judge): Column[] {
  const suffix = suffixOf(restoration);
  return [
    { name: `psnr${suffix}`, width: 1 },
    { name: `${SSIM}${suffix}`, width: 1 },
    ...(perceptual ? [{ name: `lpips${suffix}`, width: 1 }] : []),
    ...(extractor ? featureColumns(extractor, suffix) : []),
  ];
}

/** Fills the columns of some images, from image `at` of the shard on. */
async function judgeImages(
  columns: Record<string, Float32Array>,
  at: number,
  work: Judge & {
    readonly restoration: Restoration;
    readonly pixels: Tensor<'float32'>;
    /** What they should be. */
    readonly target: Tensor<'float32'>;
    readonly images: Tensor<'float32'>;
  },
): Promise<void> {
  const { restoration, pixels, images, extractor, perceptual, size: full, signal } = work;
  const size = pixels.dims[2];
  const suffix = suffixOf(restoration);
  const bytes = bytesOf(pixels);
  const { count } = bytes;
  const target = work.target.data;
  const length = 3 * size * size;
  const restored = new Float32Array(count * length);
  for (let i = 0; i < count; i++) {
    const one = restored.subarray(i * length, (i + 1) * length);
    const data = bytes.data.subarray(i * length, (i + 1) * length);
    imageValues({ data, width: size, height: size }, size, one);
    const original = target.subarray(i * length, (i + 1) * length);
    columns[`psnr${suffix}`][at + i] = psnr(one, original);
    columns[`${SSIM}${suffix}`][at + i] =
      size < SSIM_WINDOW ? Number.NaN : ssim(one, original, { channels: 3, height: size, width: size });
  }
  if (!perceptual && !extractor) return;
  const whole = { height: full, width: full };
  const dims = [count, 3, size, size];
  const enlarged = size === full ? restored : clamped(resizeImages(restored, dims, whole, 'degradation'));
  const shown = new Tensor('float32', enlarged, [count, 3, full, full]);
  if (perceptual) columns[`lpips${suffix}`].set(await perceptual.between(shown, images, { signal }), at);
  if (extractor) {
    const features = await extractor.extract(size === full ? bytes : bytesOf(shown), { signal });
    fillFeatures(columns, at, count, features, suffix);
  }
}
