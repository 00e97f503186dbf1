import { philox4x32 } from '@detailflow/core';

/** What a stream of random numbers is for: streams of different purpose never overlap. */
export const Purpose = {
  initialise: 101,
  variant: 102,
  ranks: 103,
  revival: 104,
  labelDropout: 105,
  correction: 106,
  crop: 107,
  dropout: 108,
  discriminator: 109,
} as const;

/** Where a stream begins. */
export interface StreamOptions {
  /** Safe integer >= 0. */
  readonly seed: number;
  /** One of {@link Purpose}. */
  readonly purpose: number;
  /** Which step, image or parameter it is for, 0..2^32-1. */
  readonly position: number;
}

/**
 * Random numbers of one purpose at one position, from Philox4x32-10: the same stream always gives the same numbers, so
 * a run that is resumed draws what an uninterrupted one draws.
 */
export class RandomStream {
  readonly #key: readonly [number, number];
  readonly #purpose: number;
  readonly #position: number;
  #block: ArrayLike<number> = [];
  #blocks = 0;
  #used = 0;

  constructor({ seed, purpose, position }: StreamOptions) {
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32)];
    this.#purpose = purpose;
    this.#position = position;
  }

  /** 0 .. 2^32 - 1. */
  word(): number {
    if (this.#used === this.#block.length) {
      this.#block = philox4x32([this.#blocks++, this.#position, this.#purpose, 0], this.#key);
      this.#used = 0;
    }
    return this.#block[this.#used++];
  }

  /** In (0, 1). */
  uniform(): number {
    return (this.word() + 0.5) * 2 ** -32;
  }

  /** 0 .. limit - 1, each as likely. */
  integer(limit: number): number {
    return Math.floor((this.word() * limit) / 2 ** 32);
  }

  /** From N(0, 1), by Box and Muller. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }
}
