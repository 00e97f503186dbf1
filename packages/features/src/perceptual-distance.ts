import { add, div, maximum, mul, sqrt, sum, type Value } from '@detailflow/core';

/** Far below any norm that matters; keeps the slope of the root finite where all channels are 0. */
const TINY = 1e-36;

/** Channels, which lie along an axis, divided by their norm at every place. */
export function unitChannels(x: Value, axis = 1): Value {
  return div(x, add(sqrt(maximum(sum(mul(x, x), [axis]), TINY)), 1e-10));
}

/** Mean of [B, C, H, W] over the places that a mask [1, 1, H, W] leaves, all without one: [B, C, 1, 1]. */
export function meanOverPlaces(x: Value, mask?: Value): Value {
  const [, , height, width] = x.shape as number[];
  if (!mask) return mul(sum(x, [2, 3]), 1 / (height * width));
  return div(sum(x, [2, 3]), maximum(sum(mask, [2, 3]), 1)); // nothing where no place is left
}
