import { add, broadcastTo, conv2d, mul, reshape, standardise, type Value } from '@detailflow/core';
import type { Parameters } from './parameters';

// Shapes: B batch, C channels, H and W height and width, known numbers.

/** Height and width of [B, C, H, W]. */
export function sides(x: Value): [number, number] {
  const [, , height, width] = x.shape;
  return [height as number, width as number];
}

/** A convolution with bias over [B, C, H, W]; `padding` zeros on all sides, or at the top, left, bottom and right. */
export function convolution(
  p: Parameters,
  name: string,
  x: Value,
  options: {
    readonly padding?: number | readonly [number, number, number, number];
    readonly stride?: number;
  } = {},
): Value {
  const y = conv2d(x, p(`${name}.weight`), options);
  return add(y, reshape(p(`${name}.bias`), [1, y.shape[1], 1, 1]));
}

/**
 * Group norm of [B, C, H, W]: mean and biased variance over the channels of a group and all places, then a weight and a
 * bias for each channel.
 */
export function groupNorm(
  p: Parameters,
  name: string,
  x: Value,
  { groups, epsilon }: { readonly groups: number; readonly epsilon: number },
): Value {
  const [batch, channels] = x.shape;
  const [height, width] = sides(x);
  const size = ((channels as number) / groups) * height * width;
  const normal = reshape(standardise(reshape(x, [batch, groups, size]), epsilon), x.shape);
  const perChannel = (kind: string) => reshape(p(`${name}.${kind}`), [1, channels, 1, 1]);
  return add(mul(normal, perChannel('weight')), perChannel('bias'));
}

/** Every place twice in both directions: [B, C, H, W] -> [B, C, 2H, 2W]. */
export function nearestTwice(x: Value): Value {
  const [batch, channels] = x.shape;
  const [height, width] = sides(x);
  const cells = reshape(x, [batch, channels, height, 1, width, 1]);
  const repeated = broadcastTo(cells, [batch, channels, height, 2, width, 2]);
  return reshape(repeated, [batch, channels, 2 * height, 2 * width]);
}
