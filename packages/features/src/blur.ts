import { conv2d, type Padding, reshape, type Value } from '@detailflow/core';

const taps = [1, 3, 3, 1];

/**
 * Images [B, C, H, W] smoothed channel by channel with [1, 3, 3, 1] in both directions, which sums to 1, so that rows and columns can
 * be left out without aliasing: one of `stride` is kept.
 * Source: Zhang, "Making convolutional networks shift-invariant again", 2019.
 */
export function blur(
  x: Value,
  { padding, stride = 1 }: { readonly padding: number | Padding; readonly stride?: number },
): Value {
  const [batch, channels, height, width] = x.shape as number[];
  const sum = taps.reduce((a, b) => a + b);
  const products = Float32Array.from(taps.flatMap((row) => taps.map((column) => (row * column) / sum ** 2)));
  const kernel = x.graph.constant(products, [1, 1, taps.length, taps.length]);
  const planes = reshape(x, [batch * channels, 1, height, width]);
  const y = conv2d(planes, kernel, { padding, stride });
  return reshape(y, [batch, channels, y.shape[2], y.shape[3]]);
}
