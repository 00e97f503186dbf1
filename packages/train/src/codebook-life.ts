import { DetailFlowError, Tensor, type Tensors } from '@detailflow/core';
import { CodebookUsage } from '@detailflow/tokenizer';
import type { Learner } from './learner';
import { Buffer } from './optimiser';
import { CodeRevival, type RevivalOptions } from './revival';

const RING = 'codebook.ring';
const LAST_USE = 'codebook.lastUse';

/** Which codes of a codebook were used lately, and what becomes of those that were not; part of a trainer's snapshot. */
export class CodebookLife {
  readonly #size: number;
  readonly #recipe: RevivalOptions | undefined;
  #usage: CodebookUsage;
  #revival: CodeRevival | undefined;

  constructor(size: number, recipe?: RevivalOptions) {
    this.#size = size;
    this.#recipe = recipe;
    this.#usage = new CodebookUsage(size);
    this.#revival = recipe && new CodeRevival(size, recipe);
  }

  /** Takes in the codes of a step. @returns the share of the codebook in use */
  see(codes: Int32Array, step: number): number {
    this.#revival?.see(codes, step);
    return this.#usage.add(codes);
  }

  /**
   * Dead codes become vectors of this batch, and their moments zeros.
   * @param codebook name of the parameter [K, d]
   * @param vectors [B, n, d] of each micro-batch
   * @returns how many
   */
  async revive(
    learner: Learner,
    codebook: { readonly name: string; readonly width: number },
    vectors: readonly Tensor[],
    at: { readonly seed: number; readonly step: number; readonly steps: number },
  ): Promise<number> {
    const { name, width } = codebook;
    const dead = this.#revival?.dead(at.step, at.steps) ?? [];
    if (dead.length === 0) return 0;
    const values = await learner.readOne(Buffer.parameter, name);
    this.#revival?.revive(dead, values, vectors, at);
    await learner.writeOne(Buffer.parameter, name, values);
    for (const kind of [Buffer.moment1, Buffer.moment2]) {
      const moments = await learner.readOne(kind, name);
      for (const code of dead) moments.fill(0, code * width, (code + 1) * width);
      await learner.writeOne(kind, name, moments);
    }
    return dead.length;
  }

  snapshot(): Tensors {
    const vector = (data: Int32Array) => new Tensor('int32', data, [data.length]);
    const lastUse = this.#revival?.lastUse();
    return { [RING]: vector(this.#usage.ring()), ...(lastUse && { [LAST_USE]: vector(lastUse) }) };
  }

  /** @returns what takes a snapshot in, once it is known to be whole @throws DetailFlowError `weights` */
  restoring(tensors: Tensors): () => void {
    const integers = (name: string) => {
      const found = tensors[name];
      if (found?.type === 'int32') return found.data as Int32Array;
      throw new DetailFlowError('weights', 'the checkpoint does not have this tensor', { entry: name });
    };
    const usage = new CodebookUsage(this.#size, integers(RING));
    const revival = this.#recipe && new CodeRevival(this.#size, this.#recipe, integers(LAST_USE));
    return () => {
      this.#usage = usage;
      this.#revival = revival;
    };
  }
}
