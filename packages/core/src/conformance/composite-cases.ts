import { crossEntropy, meanSquaredError } from '../losses';
import { attention, HIDDEN, rope } from '../ops/attention';
import { add, select } from '../ops/elementwise';
import {
  inverseDeviation,
  l2Normalise,
  layerNorm,
  logSoftmax,
  rmsNorm,
  softmax,
  standardise,
} from '../ops/normalisation';
import { Tensor } from '../tensor';
import { bool, type ConformanceCase, f32, fixed, i32, shifted } from './conformance-case';

/** What backends may have kernels for, or decompose. */
export const compositeCases: readonly ConformanceCase[] = [
  fixed('softmax', { x: f32(2, 3, 7) }, ({ x }) => softmax(x)),
  fixed('logSoftmax', { x: f32(2, 3, 7) }, ({ x }) => logSoftmax(x)),
  fixed('meanSquaredError', { a: f32(2, 3), b: shifted(f32(2, 3)) }, ({ a, b }) => meanSquaredError(a, b)),
  fixed('crossEntropy', { x: f32(2, 3, 5), at: i32([0, 4, 2, 2, 1, 3], 2, 3) }, ({ x, at }) =>
    crossEntropy(x, at),
  ),
  fixed('softmax with hidden keys', { x: f32(2, 3), c: bool([1, 0, 1], 3) }, ({ x, c }) =>
    softmax(add(x, select(c, 0, HIDDEN))),
  ),
  fixed('layerNorm', { x: f32(2, 3, 6), w: f32(6), b: f32(6) }, ({ x, w, b }) => layerNorm(x, w, b, 1e-6)),
  fixed('standardise', { x: f32(2, 3, 6) }, ({ x }) => standardise(x, 1e-6)),
  fixed('inverseDeviation', { x: f32(2, 3, 6) }, ({ x }) => inverseDeviation(x, 1e-6)),
  fixed('rmsNorm', { x: f32(2, 3, 6), w: f32(6) }, ({ x, w }) => rmsNorm(x, w, 1e-5)),
  fixed('l2Normalise', { x: f32(3, 5) }, ({ x }) => l2Normalise(x, 1e-12)),
  fixed('l2Normalise of zeros', { x: new Tensor('float32', new Float32Array(4), [1, 4]) }, ({ x }) =>
    l2Normalise(x, 1e-12),
  ),
  fixed('rope', { x: f32(2, 3, 2, 8), cos: f32(3, 4), sin: f32(3, 4) }, ({ x, cos, sin }) =>
    rope(x, cos, sin),
  ),
  fixed('attention', { q: f32(2, 3, 4, 6), k: f32(2, 3, 5, 6), v: f32(2, 3, 5, 6) }, ({ q, k, v }) =>
    attention(q, k, v, { scale: 0.4 }),
  ),
  fixed(
    'attention with a bias',
    { q: f32(1, 2, 4, 3), k: f32(1, 2, 4, 3), v: f32(1, 2, 4, 3), bias: f32(4, 4) },
    ({ q, k, v, bias }) => attention(q, k, v, { scale: 1, bias }),
  ),
];
