import { DetailFlowError } from '@detailflow/core';

/** How the codes of images use a codebook. */
export class CodebookUse {
  readonly #uses: Float64Array;

  constructor(codebookSize: number) {
    this.#uses = new Float64Array(codebookSize);
  }

  /** @throws DetailFlowError `invalid-argument` for a code that the codebook does not have */
  add(codes: ArrayLike<number>): void {
    const uses = this.#uses;
    for (let i = 0; i < codes.length; i++) {
      if (!(codes[i] in uses)) {
        throw new DetailFlowError('invalid-argument', `code ${codes[i]} is none of 0..${uses.length - 1}`);
      }
      uses[codes[i]]++;
    }
  }

  /** The share of the codebook that is in use; and e to the entropy of the codes. */
  finish(): { usage: number; perplexity: number } {
    const uses = this.#uses;
    const codes = uses.reduce((a, b) => a + b, 0);
    const entropy = uses.reduce(
      (sum, use) => (use > 0 ? sum - (use / codes) * Math.log(use / codes) : sum),
      0,
    );
    return { usage: uses.filter((use) => use > 0).length / uses.length, perplexity: Math.exp(entropy) };
  }
}
