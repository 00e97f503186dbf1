import { DetailFlowError } from '@detailflow/core';

/** Places of the ring, as in official checkpoints (`quantize.codebook_used`). */
const RING = 65536;

/** Which codes were used lately: statistics only. Source: docs/method.md section 3. */
export class CodebookUsage {
  /** The latest codes, the newest last; 0 before there are so many. */
  readonly #ring = new Int32Array(RING);
  /** How often each code stands in the ring. */
  readonly #counts: Int32Array;

  /** `ring`: what a checkpoint says of earlier passes, 65536 codes. */
  constructor(codebookSize: number, ring?: ArrayLike<number>) {
    this.#counts = new Int32Array(codebookSize);
    if (ring) {
      if (ring.length !== RING) {
        throw new DetailFlowError('shape', `the ring holds ${ring.length} codes, must hold ${RING}`, {
          entry: 'quantize.codebook_used',
        });
      }
      this.#ring.set(ring);
    }
    for (const code of this.#ring) this.#counts[code]++;
  }

  /** A copy of the latest 65536 codes, the newest last: what a checkpoint keeps. */
  ring(): Int32Array {
    return this.#ring.slice();
  }

  /** Takes in the codes of a pass and returns the share of the codebook that the ring now holds, 0..1. */
  add(codes: Int32Array): number {
    const latest = codes.subarray(Math.max(0, codes.length - RING));
    for (const code of this.#ring.subarray(0, latest.length)) this.#counts[code]--;
    for (const code of latest) this.#counts[code]++;
    this.#ring.copyWithin(0, latest.length);
    this.#ring.set(latest, RING - latest.length);
    const used = this.#counts.reduce((sum, count) => sum + Number(count > 0), 0);
    return used / this.#counts.length;
  }
}
