import { DetailFlowError } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import { type SkippedImage, unreadableReason } from './source-use';
import { subset } from './subset';

/** Images tried in place of one that cannot be read. */
const MOST_TRIES = 100;
/** Classes that are looked at side by side. */
const AT_ONCE = 4;

/**
 * A data set for training that gives the next readable image of the same class in place of one that cannot be read. Every
 * class is tried first: images of a class of which none can be read are left out.
 * @param onSkip told of every unreadable image, once
 * @throws DetailFlowError when nothing can be read; later, when 100 images of a class in a row cannot be read
 */
export async function skipUnreadable(
  dataset: ImageDataset,
  onSkip: (skipped: SkippedImage) => void,
): Promise<ImageDataset> {
  if (dataset.names === undefined) return dataset; // arrays are read whole or not at all
  const reader = new ClassReader(dataset, onSkip);
  const lost = await reader.unreadableClasses();
  const { labels } = dataset;
  if (lost.size === 0) return reader.dataset();
  const kept = Array.from(labels.keys()).filter((i) => !lost.has(labels[i]));
  if (kept.length > 0) return subset(reader.dataset(), kept, `${dataset.name} without ${lost.size} classes`);
  throw new DetailFlowError('io', `none of its images can be read (${labels.length}): ${reader.lastReason}`, {
    file: dataset.name,
  });
}

/** Reads images of a data set, or others of their class. */
class ClassReader {
  readonly #dataset: ImageDataset;
  readonly #onSkip: (skipped: SkippedImage) => void;
  readonly #known = new Set<number>();
  /** Of every class its images. */
  readonly #members: number[][];
  /** Of every image its place among those of its class. */
  readonly #places: Uint32Array;
  lastReason = '';

  constructor(dataset: ImageDataset, onSkip: (skipped: SkippedImage) => void) {
    this.#dataset = dataset;
    this.#onSkip = onSkip;
    this.#members = dataset.classNames.map(() => []);
    this.#places = Uint32Array.from(dataset.labels, (label, i) => this.#members[label].push(i) - 1);
  }

  /** Classes that have images, but none of the first hundred that can be read. */
  async unreadableClasses(): Promise<Set<number>> {
    const lost = new Set<number>();
    const waiting = [...this.#members.entries()].filter(([, members]) => members.length > 0);
    const work = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const [label, [first]] = next;
        if ((await this.#read(first)) === undefined) lost.add(label);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    for (const label of lost) {
      // What was not tried is left out with the rest.
      const rest = this.#members[label].filter((index) => !this.#known.has(index));
      for (const index of rest) this.#skip(index, 'unreadable: so were the first images of its class');
    }
    return lost;
  }

  dataset(): ImageDataset {
    const dataset = this.#dataset;
    return {
      ...dataset,
      image: async (index) => {
        const image = await this.#read(index);
        if (image) return image;
        const { [dataset.labels[index]]: name } = dataset.classNames;
        throw new DetailFlowError(
          'io',
          `${MOST_TRIES} images of "${name}" in a row cannot be read: ${this.lastReason}`,
          {
            file: dataset.name,
          },
        );
      },
      close: () => dataset.close?.() ?? Promise.resolve(),
    };
  }

  async #read(index: number) {
    const members = this.#members[this.#dataset.labels[index]];
    const tries = Math.min(members.length, MOST_TRIES);
    for (let step = 0; step < tries; step++) {
      const candidate = members[(this.#places[index] + step) % members.length];
      if (this.#known.has(candidate)) continue;
      try {
        return await this.#dataset.image(candidate);
      } catch (error) {
        if (!DetailFlowError.isInstance(error)) throw error;
        this.#skip(candidate, unreadableReason(error));
      }
    }
    return undefined;
  }

  #skip(index: number, reason: string): void {
    if (this.#known.has(index)) return; // two readers may have met it at the same time
    this.#known.add(index);
    this.lastReason = reason;
    this.#onSkip({ index, file: this.#dataset.names?.[index], reason });
  }
}
