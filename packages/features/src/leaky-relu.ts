import { maximum, mul, type Value } from '@detailflow/core';

const SLOPE = 0.2;

/** x above 0, a fifth of it below: the activation of discriminators. */
export const leakyRelu = (x: Value): Value => maximum(x, mul(x, SLOPE));
