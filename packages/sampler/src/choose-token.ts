import { DetailFlowError, describe, type TokenChoice } from '@detailflow/core';

/** Below this, logits divided by it might exceed float32. */
const LOWEST_TEMPERATURE = 1e-5;

/** @throws DetailFlowError `invalid-argument` naming the option and its range */
export function checkChoiceOptions({ temperature, topK, topP }: TokenChoice): void {
  const fail = (name: string, value: number, range: string) => {
    throw new DetailFlowError('invalid-argument', `${name} is ${describe(value)}; give ${range}`);
  };
  if (!(temperature >= LOWEST_TEMPERATURE && Number.isFinite(temperature)))
    fail('temperature', temperature, `a number from ${LOWEST_TEMPERATURE}, or choose greedy`);
  if (!(Number.isInteger(topK) && topK >= 0)) fail('topK', topK, 'a whole number, 0 for no limit');
  if (!(topP >= 0 && topP <= 1)) fail('topP', topP, 'a number from 0 to 1');
}

/** @throws DetailFlowError `shape` unless a model gave the logits of all that it was asked for */
export function checkLogitCount(logits: Float32Array, expected: number): void {
  if (logits.length === expected) return;
  throw new DetailFlowError('shape', `the model gave ${logits.length} logits, not ${expected}`);
}

/** @throws DetailFlowError `runtime` when the logits of a token are not all finite */
export function checkLogits(logits: Float32Array, position: number): void {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += logits[i] * 0; // NaN as soon as one is not finite
  if (sum === 0) return;
  const code = logits.findIndex((x) => !Number.isFinite(x));
  throw new DetailFlowError(
    'runtime',
    `the AR model gave the logit ${logits[code]} for code ${code} of token ${position}: its weights hold NaN, ` +
      'infinities or far too large numbers, or cfg is too large',
  );
}

/**
 * Logits of one token after temperature, top-k and top-p; what is removed becomes -Infinity.
 * Source: docs/method.md section 4.
 */
export function filterLogits(logits: Float32Array, { temperature, topK, topP }: TokenChoice): Float32Array {
  const kept = logits.map((x) => x / temperature);
  if (topK > 0 && topK < kept.length) {
    const threshold = Float32Array.from(kept).sort()[kept.length - topK];
    for (let i = 0; i < kept.length; i++) if (kept[i] < threshold) kept[i] = Number.NEGATIVE_INFINITY;
  }
  if (topP < 1) {
    const p = softmax(kept);
    const order = Array.from(p.keys()).sort((a, b) => kept[b] - kept[a] || a - b);
    let before = 0; // probability of all more probable tokens
    for (const token of order) {
      if (before > topP) kept[token] = Number.NEGATIVE_INFINITY;
      before += p[token];
    }
  }
  return kept;
}

/** Probabilities of logits, in float64. */
export function softmax(logits: Float32Array): Float64Array {
  let largest = Number.NEGATIVE_INFINITY;
  for (const x of logits) largest = Math.max(largest, x);
  const p = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    p[i] = Math.exp(logits[i] - largest);
    sum += p[i];
  }
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}

/** The token drawn with probabilities p, given one Exp(1) number for each: the largest p / e. */
export function drawToken(probabilities: Float64Array, noise: Float32Array): number {
  let best = 0;
  let score = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < probabilities.length; i++) {
    const value = probabilities[i] / noise[i];
    if (value > score) {
      score = value;
      best = i;
    }
  }
  return best;
}

/** The token with the largest logit; of equal ones the first. */
export function mostLikelyToken(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}
