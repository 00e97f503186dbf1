import { cos, div, exp, less, mul, neg, select, sin, sub } from '../ops/elementwise';
import type { GradientRule } from './rule';
import { unbroadcast } from './unbroadcast';

export const elementwiseRules: Readonly<Record<string, GradientRule>> = {
  neg: ({ upstream }) => [neg(upstream)],
  exp: ({ upstream, output }) => [mul(upstream, output)],
  log: ({ upstream, inputs: [x] }) => [div(upstream, x)],
  sqrt: ({ upstream, output }) => [div(mul(upstream, 0.5), output)],
  tanh: ({ upstream, output }) => [mul(upstream, sub(1, mul(output, output)))],
  erf: ({ upstream, inputs: [x] }) => [mul(upstream, mul(2 / Math.sqrt(Math.PI), exp(neg(mul(x, x)))))],
  sin: ({ upstream, inputs: [x] }) => [mul(upstream, cos(x))],
  cos: ({ upstream, inputs: [x] }) => [neg(mul(upstream, sin(x)))],
  sigmoid: ({ upstream, output }) => [mul(upstream, mul(output, sub(1, output)))],
  add: ({ upstream, inputs: [x, y] }) => [unbroadcast(upstream, x.shape), unbroadcast(upstream, y.shape)],
  sub: ({ upstream, inputs: [x, y] }) => [
    unbroadcast(upstream, x.shape),
    unbroadcast(neg(upstream), y.shape),
  ],
  mul: ({ upstream, inputs: [x, y] }) => [
    unbroadcast(mul(upstream, y), x.shape),
    unbroadcast(mul(upstream, x), y.shape),
  ],
  div: ({ upstream, inputs: [x, y], output }) => [
    unbroadcast(div(upstream, y), x.shape),
    unbroadcast(neg(div(mul(upstream, output), y)), y.shape),
  ],
  /** Where both are equal, x takes it all. */
  maximum: ({ upstream, inputs: [x, y] }) => {
    const second = less(x, y);
    return [
      unbroadcast(select(second, 0, upstream), x.shape),
      unbroadcast(select(second, upstream, 0), y.shape),
    ];
  },
  select: ({ upstream, inputs: [condition, x, y] }) => [
    undefined,
    unbroadcast(select(condition, upstream, 0), x.shape),
    unbroadcast(select(condition, 0, upstream), y.shape),
  ],
  stopGradient: () => [undefined],
  /** The value of the first operand, the gradient to the second. */
  straightThrough: ({ upstream }) => [undefined, upstream],
};
