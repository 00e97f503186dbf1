import type { ImageTokenizer } from '@detailflow/core';
import { acrossClasses, type CenterViewOptions, type ImageDataset, subset } from '@detailflow/data';
import { imageTensor } from '@detailflow/eval';

/** Codes of held-out images, for the loss of the AR model. */
export interface HeldOutCodes {
  readonly labels: Int32Array;
  /** [images, tokens] */
  readonly clean: Int32Array;
}

/** Images that are encoded at a time. */
const BATCH = 64;

/** Encodes images of as many classes as can be: a whole number of micro-batches, repeated where there are fewer images than one holds. */
export async function heldOutCodes(
  tokenizer: ImageTokenizer,
  options: {
    readonly dataset: ImageDataset;
    readonly view: Omit<CenterViewOptions, 'size'>;
    readonly images: number;
    /** Side of the images and their tokens; full ones if omitted. */
    readonly seen?: { readonly size: number; readonly tokens: number };
    readonly microBatch: number;
    readonly signal?: AbortSignal;
  },
): Promise<HeldOutCodes> {
  const { view, microBatch, signal } = options;
  const dataset = subset(options.dataset, acrossClasses(options.dataset.labels, options.images));
  const { tokens, size } = options.seen ?? { tokens: tokenizer.tokens, size: tokenizer.imageSize };
  const available = dataset.labels.length;
  const count = Math.max(1, Math.floor(available / microBatch)) * microBatch;
  const clean = new Int32Array(count * tokens);
  for (let first = 0; first < Math.min(count, available); first += BATCH) {
    const part = Math.min(BATCH, available - first, count - first);
    const images = await imageTensor(dataset, { ...view, size }, first, part);
    clean.set((await tokenizer.encode(images, { tokens, signal })).data, first * tokens);
  }
  for (let i = available; i < count; i++) {
    clean.copyWithin(i * tokens, (i % available) * tokens, ((i % available) + 1) * tokens);
  }
  return { labels: Int32Array.from({ length: count }, (_, i) => dataset.labels[i % available]), clean };
}
