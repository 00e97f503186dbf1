import { formatShape, sizeOf } from './dim';
import { DetailFlowError } from './errors';
import type { Value } from './graph';
import { mul, neg, sub } from './ops/elementwise';
import { takeAlong } from './ops/indexing';
import { reshape } from './ops/layout';
import { logSoftmax } from './ops/normalisation';
import { sum } from './ops/reduce';

/** Mean over all elements, as one element [1]. The shape must be known. */
export function meanOfAll(x: Value): Value {
  const count = sizeOf(x.shape);
  if (typeof count !== 'number') {
    throw new DetailFlowError('shape', `the mean over ${formatShape(x.shape)}: every extent must be known`);
  }
  return mul(sum(reshape(x, [count]), [0]), 1 / count);
}

/** Mean of (a - b)^2 over all elements: [1]. */
export function meanSquaredError(a: Value, b: Value): Value {
  const difference = sub(a, b);
  return meanOfAll(mul(difference, difference));
}

/** Mean of -log softmax(logits)[target]: logits [..., V], targets i32 [...], result [1]. */
export function crossEntropy(logits: Value, targets: Value): Value {
  const picked = takeAlong(logSoftmax(logits), reshape(targets, [...targets.shape, 1]));
  return neg(meanOfAll(picked));
}
