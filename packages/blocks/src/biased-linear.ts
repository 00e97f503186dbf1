import { linear, type ParameterSpec, type Value } from '@detailflow/core';
import type { Parameters } from './parameters';

/** x [.., from] -> [.., to] by the matrix and the bias of that name. */
export const biasedLinear = (p: Parameters, name: string, x: Value): Value =>
  linear(x, p(`${name}.weight`), p(`${name}.bias`));

/** A weight with a bias as long as its first extent: a matrix [to, from] of {@link biasedLinear}, or the scale [E] of a norm. */
export const weightAndBias = (name: string, shape: readonly number[]): ParameterSpec[] => [
  { name: `${name}.weight`, shape },
  { name: `${name}.bias`, shape: [shape[0]] },
];
