import { DetailFlowError } from '@detailflow/core';
import type { ImageDataset } from './dataset';

/** An image that could not be read, and why. */
export interface SkippedImage {
  readonly index: number;
  readonly reason: string;
}

/** Images tried in place of one that cannot be read. */
const MOST_TRIES = 100;

/**
 * A data set that gives the next readable image of the same class in place of one that cannot be read.
 * @param onSkip told of every unreadable image, once
 * @throws DetailFlowError when 100 images in a row cannot be read
 */
export function skipUnreadable(dataset: ImageDataset, onSkip: (skipped: SkippedImage) => void): ImageDataset {
  const known = new Set<number>();
  const { labels } = dataset;
  return {
    name: dataset.name,
    classNames: dataset.classNames,
    labels,
    ...(dataset.names && { names: dataset.names }),
    async image(index) {
      let failure: unknown;
      let tries = 0;
      for (let step = 0; step < labels.length && tries < MOST_TRIES; step++) {
        const candidate = (index + step) % labels.length;
        if (labels[candidate] !== labels[index]) continue;
        tries++;
        if (known.has(candidate)) continue;
        try {
          return await dataset.image(candidate);
        } catch (error) {
          if (!DetailFlowError.isInstance(error)) throw error;
          failure = error;
          known.add(candidate);
          onSkip({ index: candidate, reason: error.message });
        }
      }
      const reason = failure instanceof Error ? failure.message : 'they could not be read before';
      throw new DetailFlowError('io', `${tries} images in a row cannot be read: ${reason}`, {
        file: dataset.name,
        cause: failure,
      });
    },
    digest: dataset.digest?.bind(dataset),
    close: () => dataset.close?.() ?? Promise.resolve(),
  };
}
