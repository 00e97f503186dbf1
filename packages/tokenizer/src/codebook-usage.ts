import { DetailFlowError } from '@detailflow/core';

/** Places of the ring, as in official checkpoints (`quantize.codebook_used`). */
const RING = 65536;

/** Which codes were used lately: statistics only. Source: docs/method.md section 3. */
export class CodebookUsage {
  /** The latest codes, the newest last; 0 before there are so many. */
  readonly #ring = new Int32Array(RING);
  readonly #codebookSize: number;

  /** `ring`: what a checkpoint says of earlier passes, 65536 codes. */
  constructor(codebookSize: number, ring?: ArrayLike<number>) {
    this.#codebookSize = codebookSize;
    if (ring) {
      if (ring.length !== RING) {
        throw new DetailFlowError('shape', `the ring holds ${ring.length} codes, must hold ${RING}`, {
          entry: 'quantize.codebook_used',
        });
      }
      this.#ring.set(ring);
    }
  }

  /** Takes in the codes of a pass and returns the share of the codebook that the ring now holds, 0..1. */
  add(codes: Int32Array): number {
    const latest = codes.subarray(Math.max(0, codes.length - RING));
    this.#ring.copyWithin(0, latest.length);
    this.#ring.set(latest, RING - latest.length);
    return new Set(this.#ring).size / this.#codebookSize;
  }
}
