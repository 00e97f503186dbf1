import { checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import { Purpose } from './purpose';

/**
 * The order in which images are visited: a shuffle for each epoch that follows from the seed alone, so that a position
 * is all there is to save.
 */
export class EpochOrder {
  readonly length: number;
  readonly #seed: number;
  #epoch = -1;
  #permutation = new Uint32Array(0);

  /** @param options.length images of an epoch, >= 1 */
  constructor(options: { length: number; seed: number }) {
    checkOptions('EpochOrder', options, { length: true, seed: true });
    const { length, seed } = options;
    if (!Number.isSafeInteger(length) || length < 1) {
      throw new DetailFlowError('invalid-argument', `there are ${length} images; at least one is needed`);
    }
    this.length = length;
    this.#seed = seed;
  }

  /** The image at a position, counted over all epochs from 0. */
  at(position: number): number {
    const epoch = Math.floor(position / this.length);
    if (epoch !== this.#epoch) {
      this.#permutation = shuffled(this.length, this.#seed, epoch);
      this.#epoch = epoch;
    }
    return this.#permutation[position % this.length];
  }

  /** The images of a step, each batch following on the one before, across epochs too. */
  batch(step: number, size: number): number[] {
    return Array.from({ length: size }, (_, i) => this.at(step * size + i));
  }
}

/** Fisher and Yates. */
function shuffled(length: number, seed: number, epoch: number): Uint32Array<ArrayBuffer> {
  const random = new RandomStream({ seed, purpose: Purpose.order, position: epoch });
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
