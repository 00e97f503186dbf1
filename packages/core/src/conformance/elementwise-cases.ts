import type { Value } from '../graph';
import { gelu, geluExact, silu } from '../ops/activation';
import { HIDDEN } from '../ops/attention';
import {
  add,
  cos,
  div,
  equal,
  erf,
  exp,
  less,
  log,
  maximum,
  mul,
  neg,
  select,
  sigmoid,
  sin,
  sqrt,
  stopGradient,
  straightThrough,
  sub,
  tanh,
} from '../ops/elementwise';
import { Tensor } from '../tensor';
import { bool, type ConformanceCase, f32, fixed, i32, shifted } from './conformance-case';

const shapes: readonly (readonly number[])[] = [[], [1], [7], [3, 5], [2, 1, 3], [2, 0, 3], [1, 2, 3, 1, 2]];
const pairs: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [3, 5],
    [3, 5],
  ],
  [[3, 5], [5]],
  [
    [3, 1],
    [1, 5],
  ],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[], [2, 3]],
  [
    [0, 3],
    [1, 3],
  ],
];

const unary: Readonly<Record<string, (x: Value) => Value>> = {
  neg,
  exp,
  tanh,
  sigmoid,
  erf,
  sin,
  cos,
  gelu,
  geluExact,
  silu,
  sqrt: (x) => sqrt(add(mul(x, x), 0.1)),
  log: (x) => log(add(mul(x, x), 0.5)),
};
const binary: Readonly<Record<string, (x: Value, y: Value) => Value>> = { add, sub, mul, div, maximum, less };

/** -70 to 70, and what lies around multiples of pi / 2. */
const far = new Tensor(
  'float32',
  Float32Array.from({ length: 141 }, (_, i) => (i % 3 === 0 ? ((i - 70) * Math.PI) / 2 : i - 70)),
  [141],
);

/** Every operation of single numbers, in odd shapes and far from 0. */
export const elementwiseCases: readonly ConformanceCase[] = [
  ...Object.entries(unary).flatMap(([name, op]) =>
    shapes.map((shape) => fixed(`${name} [${shape}]`, { x: f32(...shape) }, ({ x }) => op(x))),
  ),
  ...Object.entries(binary).flatMap(([name, op]) =>
    pairs.map(([a, b]) =>
      fixed(`${name} [${a}] [${b}]`, { a: f32(...a), b: shifted(f32(...b)) }, (x) => op(x.a, x.b)),
    ),
  ),
  ...Object.entries({ erf, sin, cos, geluExact }).map(([name, op]) =>
    fixed(`${name} far from 0`, { x: far }, ({ x }) => op(x)),
  ),
  fixed('add i32', { a: i32([1, -2, 3], 3), b: i32([10], 1) }, ({ a, b }) => add(a, b)),
  fixed('mul and sub i32', { a: i32([1, -2, 3, 4], 2, 2) }, ({ a }) => sub(mul(a, 3), a)),
  fixed('less i32', { a: i32([1, -2, 3], 3) }, ({ a }) => less(a, 1)),
  fixed('equal i32', { a: i32([1, -2, 3], 3) }, ({ a }) => equal(a, -2)),
  fixed('select', { c: bool([1, 0, 1], 3, 1), a: f32(3, 4), b: f32(4) }, ({ c, a, b }) => select(c, a, b)),
  fixed('select i32', { c: bool([1, 0], 2), x: i32([5, 6, 7, 8], 2, 2) }, ({ c, x }) => select(c, x, 0)),
  fixed('stopGradient', { x: f32(2, 3) }, ({ x }) => add(x, stopGradient(x))),
  fixed('straightThrough', { x: f32(2, 3) }, ({ x }) => straightThrough(neg(x), exp(x))),
  fixed('select against a number', { c: bool([1, 0], 1, 2) }, ({ c }) => select(c, 0, HIDDEN)),
];
