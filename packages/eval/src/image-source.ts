import {
  checkOptions,
  DetailFlowError,
  type Guidance,
  type ImageTokenizer,
  pixelToByte,
  RandomStream,
  Tensor,
  type TokenModel,
} from '@detailflow/core';
import { type CenterViewOptions, centerView, type ImageDataset, imageValues } from '@detailflow/data';
import { sampleTokens } from '@detailflow/sampler';
import { keptImages, type RestoringTokenizer } from './correcting-tokenizer';
import { requireFinite } from './finite-features';
import { resizedBicubic } from './resized-bicubic';
import { BATCH, parts, SHARD, type ShardIdentity, type ShardJob, type ShardStore } from './shard-store';
import { tokenWorth } from './token-worth';

/** Images of 8 bits a channel. */
export interface ByteImages {
  /** [count, height, width, 3] */
  readonly data: Uint8Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** Images that are read, restored or generated when they are asked for. */
export interface ImageSource {
  /** What it is and what it depends on: features of sources of one name may be kept. */
  readonly name: string;
  /** Of every image the class; their number is the number of images. */
  readonly labels: Int32Array;
  /** Images first .. first + count - 1. */
  read(first: number, count: number, options?: { signal?: AbortSignal }): Promise<ByteImages>;
}

type View = CenterViewOptions;

/**
 * The images of a data set.
 * @param view makes them square; default: they are taken as they are, and must all have the size of the first
 * @throws DetailFlowError `shape` when an image has another size
 */
export function datasetSource(dataset: ImageDataset, view?: View): ImageSource {
  let expected: string | undefined;
  return {
    name: view ? `${dataset.name} ${JSON.stringify(view)}` : dataset.name,
    labels: dataset.labels,
    async read(first, count) {
      let [height, width] = [0, 0];
      let data = new Uint8Array(0);
      for (let i = 0; i < count; i++) {
        const found = await dataset.image(first + i);
        const image = view ? centerView(found, view) : found;
        const size = `${image.width} x ${image.height}`;
        expected ??= size;
        if (size !== expected) {
          throw new DetailFlowError(
            'shape',
            `image ${first + i} has ${size} pixels, another ${expected}; say to which size they should be cut`,
            { file: dataset.name },
          );
        }
        if (i === 0) data = new Uint8Array(count * image.data.length);
        ({ height, width } = image);
        data.set(image.data, i * image.data.length);
      }
      return { data, count, height, width };
    },
  };
}

/** The first images of a source. */
export const firstImages = (source: ImageSource, count: number): ImageSource => ({
  ...source,
  labels: source.labels.slice(0, count),
});

/**
 * The images of a source, kept shard by shard once they are made.
 * @param size of every image, in pixels
 */
export function keptSource(
  source: ImageSource,
  store: ShardStore,
  size: { readonly height: number; readonly width: number },
): ImageSource {
  const { height, width } = size;
  const bytes = height * width * 3;
  const total = source.labels.length;
  let known: { first: number; pixels: Promise<Uint8Array> } | undefined;
  const shardAt = (first: number, signal?: AbortSignal): Promise<Uint8Array> => {
    if (known?.first === first) return known.pixels;
    const job: ShardJob = {
      ...pixelShards(source),
      columns: [{ name: 'pixels', width: bytes, dtype: 'u8' }],
      async make(start, count) {
        const pixels = new Uint8Array(count * bytes);
        for (const one of parts(start, count, BATCH)) {
          const { data } = await source.read(one.first, one.count, { signal });
          pixels.set(data, (one.first - start) * bytes);
        }
        return { pixels };
      },
    };
    const pixels = store
      .shard(job, first, Math.min(SHARD, total - first))
      .then((columns) => columns.pixels as Uint8Array);
    known = { first, pixels };
    pixels.catch(() => {
      known = undefined;
    });
    return pixels;
  };
  return {
    ...source,
    async read(first, count, { signal } = {}) {
      const data = new Uint8Array(count * bytes);
      for (let at = first; at < first + count; ) {
        const start = Math.floor(at / SHARD) * SHARD;
        const end = Math.min(first + count, start + SHARD);
        const pixels = await shardAt(start, signal);
        data.set(pixels.subarray((at - start) * bytes, (end - start) * bytes), (at - first) * bytes);
        at = end;
      }
      return { data, count, height, width };
    },
  };
}

/** What pixels of a source are kept under. */
export const pixelShards = ({ name, labels }: ImageSource): ShardIdentity => ({
  name: `${name}, pixels`,
  total: labels.length,
});

/** The images of a data set, encoded and restored from the first tokens at the size that these are worth, as bytes. */
export function reconstructionSource(
  dataset: ImageDataset,
  view: View,
  options: {
    readonly tokenizer: RestoringTokenizer;
    readonly tokens?: number;
    readonly noiseIndex?: number | null;
  },
): ImageSource {
  checkOptions('reconstructionSource', options, { tokenizer: true, tokens: true, noiseIndex: true });
  const { tokenizer, tokens = tokenizer.tokens, noiseIndex = null } = options;
  return {
    name: `${dataset.name} ${JSON.stringify(view)} from ${tokens} tokens, noise ${noiseIndex}`,
    labels: dataset.labels,
    async read(first, count, { signal } = {}) {
      const images = await imageTensor(dataset, view, first, count);
      const kept = await keptImages(tokenizer, images, { signal });
      const { size } = tokenWorth(tokenizer, tokens, view.size);
      return bytesOf(await kept.restore({ tokens, noiseIndex, size, seed: first }));
    },
  };
}

/** Images first .. first + count - 1 of a data set, squared: [count, 3, size, size] in [-1, 1]. */
export async function imageTensor(
  dataset: ImageDataset,
  view: View,
  first: number,
  count: number,
): Promise<Tensor<'float32'>> {
  const { size } = view;
  const length = 3 * size * size;
  const values = new Float32Array(count * length);
  for (let i = 0; i < count; i++) {
    const image = centerView(await dataset.image(first + i), view);
    imageValues(image, size, values.subarray(i * length, (i + 1) * length));
  }
  return new Tensor('float32', values, [count, 3, size, size]);
}

/** How the classes of pictures are chosen. */
export type PictureLabels = 'balanced' | 'random';

/** Random numbers that choose classes. */
const LABEL_PURPOSE = 402;

/** How guidance runs along the steps, under a name that tells it from all others. */
export interface NamedGuidance {
  readonly name: string;
  readonly rule: Guidance;
}

/** How pictures are drawn for an evaluation. */
export interface GeneratedOptions {
  readonly model: TokenModel;
  readonly tokenizer: ImageTokenizer;
  readonly count: number;
  readonly classes: number;
  /** The classes of the pictures one by one, instead. */
  readonly chosen?: Int32Array;
  /**
   * Classes of the pictures. `balanced` (default): image i is of class i mod classes. `random`: every class as likely,
   * as the official script draws them, by the seed of the image.
   */
  readonly labels?: PictureLabels;
  /** Image i uses seed + i; default 0. */
  readonly seed?: number;
  readonly cfg?: number;
  /** Side at which tokens are decoded; what they are worth if omitted. */
  readonly size?: number;
  /** Side to which the decoded pictures are resized (bicubic) before they become bytes, as the official scripts do; default: they are not. */
  readonly evalSize?: number;
  /** A name of the model's guidances, or a rule under a name: figures that are kept are known by it. */
  readonly guidance?: string | NamedGuidance;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
}

/** Generated pictures, as bytes. Image i depends on seed + i and its class alone, which `generate` draws, too. */
export function generatedSource(options: GeneratedOptions): ImageSource {
  checkOptions('generatedSource', options, {
    model: true,
    tokenizer: true,
    count: true,
    classes: true,
    chosen: true,
    labels: true,
    seed: true,
    cfg: true,
    size: true,
    evalSize: true,
    guidance: true,
    temperature: true,
    topK: true,
    topP: true,
  });
  const { model, tokenizer, count, classes, chosen, labels: kind = 'balanced', ...rest } = options;
  const { seed = 0, size, evalSize, guidance, ...choice } = rest;
  const isNamed = typeof guidance === 'object';
  const sampling = { ...choice, guidance: isNamed ? guidance.rule : guidance };
  const known = { ...choice, guidance: isNamed ? guidance.name : guidance };
  const labelOf = (i: number) =>
    kind === 'balanced'
      ? i % classes
      : new RandomStream({ seed: seed + i, purpose: LABEL_PURPOSE, position: 0 }).integer(classes);
  const all = chosen ?? Int32Array.from({ length: count }, (_, i) => labelOf(i));
  const ones = chosen && { chosen: [...chosen] };
  return {
    name: `generated ${JSON.stringify({ classes, labels: kind, seed, size, evalSize, ...known, ...ones })}`,
    labels: all,
    async read(first, images, { signal } = {}) {
      const labels = Array.from(all.subarray(first, first + images));
      for await (const step of sampleTokens({ ...sampling, model, labels, seed: seed + first, signal })) {
        if (step.count < step.total) continue;
        const pixels = await tokenizer.decode(await step.tokens(), { size, signal });
        return bytesOf(evalSize === undefined ? pixels : resizedBicubic(pixels, evalSize));
      }
      throw new DetailFlowError('runtime', 'the sampler made no step');
    },
  };
}

/**
 * [n, 3, H, W] in [-1, 1] as bytes, as the official code rounds.
 * @throws DetailFlowError `invalid-argument` when a value is not finite: a byte would hide it
 */
export function bytesOf(pixels: Tensor<'float32'>): ByteImages {
  const [count, , height, width] = pixels.dims;
  const values = pixels.data as Float32Array;
  const plane = height * width;
  requireFinite(values, 3 * plane, 'pixel value');
  const data = new Uint8Array(count * plane * 3);
  for (let i = 0; i < count; i++) {
    for (let at = 0; at < plane; at++) {
      for (let c = 0; c < 3; c++)
        data[3 * (i * plane + at) + c] = pixelToByte(values[(3 * i + c) * plane + at]);
    }
  }
  return { data, count, height, width };
}
