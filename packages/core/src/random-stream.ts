import { checkOptions } from './check-options';
import { philox4x32 } from './philox';

/** Where a stream begins. */
export interface StreamOptions {
  /** Safe integer >= 0. */
  readonly seed: number;
  /** What the numbers are for, 0..2^32-1: streams of different purpose never overlap. Core uses those below 100. */
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

  constructor(options: StreamOptions) {
    checkOptions('RandomStream', options, { seed: true, purpose: true, position: true });
    const { seed, purpose, position } = options;
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
