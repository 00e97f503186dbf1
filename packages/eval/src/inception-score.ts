import { DetailFlowError } from '@detailflow/core';

/**
 * Inception score: exp of the mean divergence of an image's class probabilities from their mean, over consecutive
 * splits.
 * @param logits [n, classes]
 * @param options.splitSize images of a split; the ADM evaluator uses 5000
 * @returns mean and standard deviation over the splits
 * @throws DetailFlowError `shape`
 */
export function inceptionScore(
  logits: Float32Array,
  options: { readonly classes: number; readonly splitSize?: number },
): { mean: number; deviation: number } {
  const { classes, splitSize = 5000 } = options;
  const count = logits.length / classes;
  if (!Number.isInteger(count) || count === 0) {
    throw new DetailFlowError('shape', `${logits.length} logits do not make rows of ${classes}`);
  }
  const scores: number[] = [];
  for (let first = 0; first < count; first += splitSize) {
    scores.push(splitScore(logits, classes, first, Math.min(count, first + splitSize)));
  }
  const mean = scores.reduce((sum, x) => sum + x, 0) / scores.length;
  const deviation = Math.sqrt(scores.reduce((sum, x) => sum + (x - mean) ** 2, 0) / scores.length);
  return { mean, deviation };
}

/** exp(mean over images of sum p log(p / mean p)) = exp(mean of sum p log p - sum q log q), q the mean. */
function splitScore(logits: Float32Array, classes: number, first: number, end: number): number {
  const mean = new Float64Array(classes);
  let negentropy = 0;
  for (let row = first; row < end; row++) {
    const values = logits.subarray(row * classes, (row + 1) * classes);
    const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    let total = 0;
    for (const value of values) total += Math.exp(value - most);
    const shift = most + Math.log(total);
    for (const [c, value] of values.entries()) {
      const p = Math.exp(value - shift);
      mean[c] += p / (end - first);
      negentropy += (p * (value - shift)) / (end - first);
    }
  }
  return Math.exp(negentropy - mean.reduce((sum, q) => sum + (q > 0 ? q * Math.log(q) : 0), 0));
}
