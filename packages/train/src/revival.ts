import type { Tensor } from '@detailflow/core';
import { RandomStream } from '@detailflow/core';
import { Purpose } from './purpose';

/**
 * When codes that nobody uses get a new life. A codebook trained from scratch on little data collapses to a few codes
 * otherwise.
 */
export interface RevivalOptions {
  /** Every how many steps. */
  readonly every: number;
  /** Share of the run after which codes are left alone. */
  readonly until: number;
  /** Steps without use after which a code counts as dead. */
  readonly patience: number;
}

/** Which step saw a code last, and what dead codes become. */
export class CodeRevival {
  readonly #options: RevivalOptions;
  readonly #lastUse: Int32Array;

  /** `lastUse`: the step of every code's last use, from a checkpoint. */
  constructor(codebookSize: number, options: RevivalOptions, lastUse?: Int32Array) {
    this.#options = options;
    this.#lastUse = lastUse?.slice() ?? new Int32Array(codebookSize);
  }

  /** The step of every code's last use. */
  lastUse(): Int32Array {
    return this.#lastUse.slice();
  }

  /** Notes which codes a step has used. */
  see(codes: Int32Array, step: number): void {
    for (const code of codes) this.#lastUse[code] = step;
  }

  /** Codes to revive after a step; none when it is not the time. */
  dead(step: number, steps: number): number[] {
    const { every, until, patience } = this.#options;
    if (step >= until * steps || (step + 1) % every !== 0) return [];
    const found: number[] = [];
    for (const [code, last] of this.#lastUse.entries()) if (step - last >= patience) found.push(code);
    return found;
  }

  /**
   * Puts latents drawn from a batch in the place of dead codes.
   * @param codebook [K, d], changed in place
   * @param latents unit vectors [B, n, d]
   */
  revive(
    dead: readonly number[],
    codebook: Float32Array,
    latents: readonly Tensor[],
    at: { seed: number; step: number },
  ): void {
    const random = new RandomStream({ seed: at.seed, purpose: Purpose.revival, position: at.step });
    const [, tokens, width] = latents[0].dims;
    for (const code of dead) {
      const { data, dims } = latents[random.integer(latents.length)];
      const row = random.integer(dims[0] * tokens);
      codebook.set((data as Float32Array).subarray(row * width, (row + 1) * width), code * width);
      this.#lastUse[code] = at.step;
    }
  }
}
