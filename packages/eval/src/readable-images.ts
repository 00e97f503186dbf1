import { DetailFlowError } from '@detailflow/core';
import { type ImageDataset, type SkippedImage, subset, unreadableReason } from '@detailflow/data';
import { eachShard, noStore, type ShardStore } from './shard-store';

/** Images that are decoded side by side. */
const AT_ONCE = 4;

/** How a data set is looked through for images that cannot be read. */
export interface ReadableOptions {
  /** Keeps which images could be read. Default: nothing is kept. */
  readonly store?: ShardStore;
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * The images of a data set that can be read, and which cannot: every one is decoded once, so that no figure is measured on
 * another image in place of a broken one. Data sets of arrays are returned as they are.
 * @throws DetailFlowError `io` when none can be read; the reason of the signal
 */
export async function readableImages(
  dataset: ImageDataset,
  { store = noStore, signal, onProgress }: ReadableOptions = {},
): Promise<{ dataset: ImageDataset; skipped: SkippedImage[] }> {
  const { names, labels } = dataset;
  if (names === undefined) return { dataset, skipped: [] };
  const total = labels.length;
  const reasons = new Map<number, string>();
  const check = async (index: number): Promise<boolean> => {
    try {
      await dataset.image(index);
      return true;
    } catch (error) {
      if (!DetailFlowError.isInstance(error)) throw error;
      reasons.set(index, unreadableReason(error));
      return false;
    }
  };
  const shards = eachShard(store, {
    name: `${dataset.name}, which of its images can be read`,
    total,
    columns: [{ name: 'readable', width: 1, dtype: 'u8' }],
    async make(first, count) {
      const readable = new Uint8Array(count);
      for (let at = 0; at < count; at += AT_ONCE) {
        signal?.throwIfAborted();
        const some = Array.from({ length: Math.min(AT_ONCE, count - at) }, (_, i) => at + i);
        const found = await Promise.all(some.map((i) => check(first + i)));
        for (const [i, isReadable] of found.entries()) readable[at + i] = isReadable ? 1 : 0;
        onProgress?.(first + at + some.length, total);
      }
      return { readable };
    },
  });
  const kept: number[] = [];
  const skipped: SkippedImage[] = [];
  for await (const { first, count, columns } of shards) {
    for (let i = 0; i < count; i++) {
      const index = first + i;
      // What was kept says only that an image could not be read; it is tried again to say why.
      const isReadable = columns.readable[i] === 1 || (!reasons.has(index) && (await check(index)));
      if (isReadable) kept.push(index);
      else skipped.push({ index, file: names[index], reason: reasons.get(index) as string });
    }
  }
  if (kept.length === 0) {
    throw new DetailFlowError('io', `none of its images can be read (${total}): ${skipped[0]?.reason}`, {
      file: dataset.name,
    });
  }
  if (skipped.length === 0) return { dataset, skipped };
  return { dataset: subset(dataset, kept, `${dataset.name} without ${skipped.length} unreadable`), skipped };
}
