import { checkOptions, DetailFlowError } from '@detailflow/core';
import { requireFinite } from './finite-features';

/** Options of the inception score. */
export interface InceptionScoreOptions {
  /** Logits of an image. */
  readonly classes: number;
  /** Images of a split; default 5000, as the ADM evaluator has it. */
  readonly splitSize?: number;
}

/**
 * Inception score: exp of the mean divergence of an image's class probabilities from their mean, over consecutive
 * splits. The logits may come in parts.
 * Source: Salimans et al., "Improved techniques for training GANs", 2016.
 */
export class InceptionScore {
  readonly #classes: number;
  readonly #splitSize: number;
  readonly #scores: number[] = [];
  /** Of the split that is being filled: images, sum of probabilities, sum of p log p. */
  #count = 0;
  readonly #sum: Float64Array;
  #negentropy = 0;

  constructor(options: InceptionScoreOptions) {
    checkOptions('InceptionScore', options, { classes: true, splitSize: true });
    const { classes, splitSize = 5000 } = options;
    this.#classes = classes;
    this.#splitSize = splitSize;
    this.#sum = new Float64Array(classes);
  }

  /** Takes logits [n, classes] in. @throws DetailFlowError `shape`; `invalid-argument` when one is not finite */
  add(logits: Float32Array): void {
    const classes = this.#classes;
    requireFinite(logits, classes, 'logit');
    for (let at = 0; at < logits.length; at += classes) this.#addImage(logits.subarray(at, at + classes));
  }

  /**
   * Mean and standard deviation over the splits, of which the last may be smaller.
   * @throws DetailFlowError `invalid-argument` without any image
   */
  finish(): { mean: number; deviation: number } {
    const scores = this.#count > 0 ? [...this.#scores, this.#splitScore()] : this.#scores;
    if (scores.length === 0) throw new DetailFlowError('invalid-argument', 'there are no images');
    const mean = scores.reduce((sum, x) => sum + x, 0) / scores.length;
    const deviation = Math.sqrt(scores.reduce((sum, x) => sum + (x - mean) ** 2, 0) / scores.length);
    return { mean, deviation };
  }

  #addImage(logits: Float32Array): void {
    let most = Number.NEGATIVE_INFINITY;
    for (const value of logits) most = Math.max(most, value);
    let total = 0;
    for (const value of logits) total += Math.exp(value - most);
    const shift = most + Math.log(total);
    for (let c = 0; c < logits.length; c++) {
      const p = Math.exp(logits[c] - shift);
      this.#sum[c] += p;
      this.#negentropy += p * (logits[c] - shift);
    }
    if (++this.#count < this.#splitSize) return;
    this.#scores.push(this.#splitScore());
    this.#count = 0;
    this.#negentropy = 0;
    this.#sum.fill(0);
  }

  /** exp(mean over images of sum p log(p / q)) = exp(mean of sum p log p - sum q log q), q the mean of p. */
  #splitScore(): number {
    const count = this.#count;
    const entropy = this.#sum.reduce((sum, p) => (p > 0 ? sum + (p / count) * Math.log(p / count) : sum), 0);
    return Math.exp(this.#negentropy / count - entropy);
  }
}

/**
 * {@link InceptionScore} of logits [n, classes] that are all there.
 * @throws DetailFlowError `shape`; `invalid-argument` without any image
 */
export function inceptionScore(
  logits: Float32Array,
  options: InceptionScoreOptions,
): { mean: number; deviation: number } {
  const score = new InceptionScore(options);
  score.add(logits);
  return score.finish();
}
