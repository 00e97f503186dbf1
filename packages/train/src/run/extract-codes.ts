import {
  checkOptions,
  DetailFlowError,
  type ImageTokenizer,
  RandomStream,
  randomRanks,
  Tensor,
} from '@detailflow/core';
import {
  type CodeViews,
  codeViews,
  type ImageDataset,
  imageValues,
  type SkippedImage,
  type ViewOptions,
} from '@detailflow/data';
import { NEAREST_CODES, type Tokenizer } from '@detailflow/tokenizer';
import { Purpose } from '../purpose';
import type { CodeStore, CodeStoreHeader } from './code-store';

/** A tokenizer of any family; DetailFlow's also make the codes of self-correction. */
export type EncodingTokenizer = ImageTokenizer | Tokenizer;

const isCorrecting = (tokenizer: EncodingTokenizer): tokenizer is Tokenizer =>
  'encodeCorrected' in tokenizer && tokenizer.config.correction;

/** How the codes of images are made. */
export interface EncodeOptions {
  /** Each encodes a part of a shard at the same time as the others. */
  readonly tokenizers: readonly EncodingTokenizer[];
  readonly dataset: ImageDataset;
  /** Of their size; an image has as many tokens as a row of the store. */
  readonly view: ViewOptions & { readonly views: CodeViews; readonly cropRanges?: readonly number[] };
  /** Tokens of a row, and views of an image. */
  readonly header: Pick<CodeStoreHeader, 'tokens' | 'views'>;
  readonly seed: number;
  /** Images of one run. */
  readonly batch: number;
  readonly signal?: AbortSignal;
}

/** Codes of some images, [count, views, 3, N], and images that could not be read and were replaced. */
export interface CodesPart {
  readonly codes: Uint16Array;
  readonly skipped: readonly SkippedImage[];
}

/** Shards of codes that are made somewhere else. */
export interface CodesElsewhere {
  /** All shards that will be asked for, in this order: those that are not written yet. */
  begin(shards: readonly { readonly first: number; readonly count: number }[]): Promise<void>;
  /** Codes of images first .. first + count - 1, all views of each. */
  codes(first: number, count: number): Promise<CodesPart>;
  /** All are written. */
  finish(): Promise<void>;
}

/** Which images become codes, by which tokenizers. */
export interface ExtractOptions extends Omit<EncodeOptions, 'header'> {
  readonly store: CodeStore;
  /** Who makes the codes, if not this process. */
  readonly elsewhere?: CodesElsewhere;
  /** Told of every image that could not be read there. */
  readonly onSkip?: (skipped: SkippedImage) => void;
  /** Called with the images that are done, and all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Encodes the images of a data set, shard by shard; those that are written are left as they are. Every image has one
 * first wrong token, drawn once for all its views. Source: docs/method.md section 5.
 */
export async function extractCodes(options: ExtractOptions): Promise<void> {
  checkOptions('extractCodes', options, {
    tokenizers: true,
    dataset: true,
    view: true,
    store: true,
    ...{ elsewhere: true, onSkip: true },
    seed: true,
    batch: true,
    signal: true,
    onProgress: true,
  });
  const { store, dataset, signal, elsewhere, onProgress } = options;
  if (store.header.codebookSize > 65536) {
    throw new DetailFlowError(
      'unsupported',
      `codes are stored in 16 bits, ${store.header.codebookSize} are too many`,
    );
  }
  const { tokenizers, view, seed, batch } = options;
  const how: EncodeOptions = { tokenizers, dataset, view, seed, batch, signal, header: store.header };
  const missing: number[] = [];
  for (let shard = 0; shard < store.shards; shard++) if (!(await store.has(shard))) missing.push(shard);
  await elsewhere?.begin(missing.map((shard) => store.range(shard)));
  for (let shard = 0; shard < store.shards; shard++) {
    const { first, count } = store.range(shard);
    if (missing.includes(shard)) {
      const made = elsewhere
        ? await elsewhere.codes(first, count)
        : { codes: await encodeShard(how, first, count), skipped: [] };
      for (const image of made.skipped) options.onSkip?.(image);
      signal?.throwIfAborted();
      await store.write(shard, made.codes);
    }
    onProgress?.(first + count, dataset.labels.length);
  }
  await elsewhere?.finish();
}

/** A view that is to be encoded: where its rows go, and its seed. */
interface Job {
  readonly values: Float32Array;
  readonly at: number;
  readonly seed: number;
}

/** Encodes images first .. first + count - 1: [count, views, 3, N]. They depend on each other's company in nothing but rounding. */
export async function encodeShard(
  options: EncodeOptions,
  first: number,
  count: number,
): Promise<Uint16Array> {
  const { dataset, view, header, tokenizers, batch, seed, signal } = options;
  const { tokens, views } = header;
  const codes = new Uint16Array(count * views * 3 * tokens);
  const waiting = new Map<number | null, Job[]>();
  const ready: { noiseIndex: number | null; jobs: Job[] }[] = [];
  const queue = (noiseIndex: number | null, jobs: Job[]) => ready.push({ noiseIndex, jobs });
  const work = () =>
    Promise.all(
      tokenizers.map(async (tokenizer) => {
        for (let next = ready.shift(); next; next = ready.shift()) {
          signal?.throwIfAborted();
          await encodeJobs(tokenizer, next, { size: view.size, tokens }, codes);
        }
      }),
    );
  for (let i = 0; i < count; i++) {
    signal?.throwIfAborted();
    const noiseIndex = drawNoiseIndex(tokenizers[0], tokens, seed, first + i);
    const { size, fit, background, views: kind, cropRanges, ...how } = view;
    const seen = {
      ...{ size, fit, background, views: kind, cropRanges },
      training: { ...how, seed, position: first + i },
    };
    const jobs = waiting.get(noiseIndex) ?? [];
    waiting.set(noiseIndex, jobs);
    for (const [v, image] of codeViews(await dataset.image(first + i), seen).entries()) {
      const at = (i * views + v) * 3 * tokens;
      jobs.push({ values: imageValues(image, view.size), at, seed: seed + (first + i) * views + v });
      if (jobs.length === batch) queue(noiseIndex, jobs.splice(0));
    }
    if (ready.length >= 2 * tokenizers.length) await work();
  }
  for (const [noiseIndex, jobs] of waiting) if (jobs.length > 0) queue(noiseIndex, jobs);
  await work();
  return codes;
}

function drawNoiseIndex(
  tokenizer: EncodingTokenizer,
  tokens: number,
  seed: number,
  image: number,
): number | null {
  if (!isCorrecting(tokenizer)) return null;
  const { resolutions } = tokenizer;
  const choices = resolutions.noiseTokenLimit(tokens);
  if (choices === null) return null;
  const random = new RandomStream({ seed, purpose: Purpose.noiseIndex, position: image });
  return resolutions.noiseTokenIndex(random.integer(choices), tokens);
}

async function encodeJobs(
  tokenizer: EncodingTokenizer,
  { noiseIndex, jobs }: { readonly noiseIndex: number | null; readonly jobs: readonly Job[] },
  { size, tokens }: { readonly size: number; readonly tokens: number },
  codes: Uint16Array,
): Promise<void> {
  const { codebookSize } = tokenizer;
  const pixels = new Float32Array(jobs.length * 3 * size * size);
  const ranks = new Int32Array(jobs.length * tokens);
  for (const [i, { values, seed }] of jobs.entries()) {
    pixels.set(values, i * values.length);
    ranks.set(randomRanks({ seed, count: tokens, limit: Math.min(NEAREST_CODES, codebookSize) }), i * tokens);
  }
  const images = new Tensor('float32', pixels, [jobs.length, 3, size, size]);
  const rows =
    noiseIndex === null || !isCorrecting(tokenizer)
      ? await tokenizer.encode(images, { tokens }).then((clean) => [clean, clean, clean])
      : await tokenizer
          .encodeCorrected(images, {
            tokens,
            noiseIndex,
            ranks: new Tensor('int32', ranks, [jobs.length, tokens]),
          })
          .then(({ clean, input, target }) => [clean, input, target]);
  for (const [i, { at }] of jobs.entries()) {
    for (const [r, { data }] of rows.entries()) {
      codes.set((data as Int32Array).subarray(i * tokens, (i + 1) * tokens), at + r * tokens);
    }
  }
}
