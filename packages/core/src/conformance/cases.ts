import type { Tensors } from '../backend';
import { addDims, type Bindings, multiplyDims, symbol } from '../dim';
import type { GraphBuilder, Value } from '../graph';
import { crossEntropy, meanSquaredError } from '../losses';
import { gelu, geluExact, silu } from '../ops/activation';
import { attention, cachedAttention, HIDDEN, rope } from '../ops/attention';
import { averagePool2d, conv2d, maxPool2d } from '../ops/convolution';
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
import { gather, scatterRows, takeAlong, topK, writeRows } from '../ops/indexing';
import { broadcastTo, concat, reshape, slice, transpose } from '../ops/layout';
import { linear, matmul } from '../ops/matmul';
import {
  inverseDeviation,
  l2Normalise,
  layerNorm,
  logSoftmax,
  rmsNorm,
  softmax,
  standardise,
} from '../ops/normalisation';
import { max, mean, sum } from '../ops/reduce';
import { writeRowsAt } from '../ops/write-rows-at';
import { Tensor } from '../tensor';

/** A small graph and what to feed it: a backend must compute what the reference backend computes. */
export interface ConformanceCase {
  readonly name: string;
  /** Adds the graph's nodes; returns its outputs. */
  readonly build: (graph: GraphBuilder) => Readonly<Record<string, Value>>;
  /** Feeds of consecutive runs; with states, of runs on one state. */
  readonly runs: readonly Tensors[];
  /** Weights by name. */
  readonly weights?: Readonly<Record<string, Tensor>>;
  /** Symbols in the shapes of states; set for graphs with states. */
  readonly stateDims?: Bindings;
  /** Names of the states to compare after the last run. */
  readonly states?: readonly string[];
}

/** Repeatable numbers in about [-2, 2], no two alike. */
function f32(...dims: number[]): Tensor {
  const count = dims.reduce((a, b) => a * b, 1);
  const data = Float32Array.from(
    { length: count },
    (_, i) => 2 * Math.sin(12.9898 * (i + 1) + 0.37 * dims.length + count),
  );
  return new Tensor('float32', data, dims);
}

/** The same tensor with every number moved a little, so that no two operands are equal. */
function shifted({ data, dims }: Tensor): Tensor {
  return new Tensor(
    'float32',
    Float32Array.from(data as Float32Array, (x) => 0.8 * x + 0.3),
    dims,
  );
}

function i32(values: readonly number[], ...dims: number[]): Tensor {
  return new Tensor('int32', Int32Array.from(values), dims);
}

function bool(values: readonly number[], ...dims: number[]): Tensor {
  return new Tensor('bool', Uint8Array.from(values), dims);
}

const dtypes = { float32: 'f32', int32: 'i32', bool: 'bool' } as const;

/** A case whose inputs have the fixed shapes of its feeds. */
function fixed(
  name: string,
  feeds: Readonly<Record<string, Tensor>>,
  compute: (x: Readonly<Record<string, Value>>, graph: GraphBuilder) => Value,
): ConformanceCase {
  return {
    name,
    runs: [feeds],
    build: (graph) => {
      const inputs = Object.entries(feeds).map(([key, feed]) => [
        key,
        graph.input(key, dtypes[feed.type as keyof typeof dtypes], feed.dims),
      ]);
      return { y: compute(Object.fromEntries(inputs), graph) };
    },
  };
}

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

const elementwise: readonly ConformanceCase[] = [
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

const products: readonly ConformanceCase[] = [
  fixed('matmul', { a: f32(3, 5), b: f32(5, 2) }, ({ a, b }) => matmul(a, b)),
  fixed('matmul a^T b', { a: f32(5, 3), b: f32(5, 2) }, ({ a, b }) => matmul(a, b, { transposeA: true })),
  fixed('matmul a b^T', { a: f32(3, 5), b: f32(2, 5) }, ({ a, b }) => matmul(a, b, { transposeB: true })),
  fixed('matmul a^T b^T', { a: f32(5, 3), b: f32(2, 5) }, ({ a, b }) =>
    matmul(a, b, { transposeA: true, transposeB: true }),
  ),
  fixed('matmul batched', { a: f32(2, 3, 4, 5), b: f32(2, 3, 5, 1) }, ({ a, b }) => matmul(a, b)),
  fixed('matmul batched b^T', { a: f32(2, 3, 4, 5), b: f32(2, 3, 6, 5) }, ({ a, b }) =>
    matmul(a, b, { transposeB: true }),
  ),
  fixed('matmul, one matrix for all', { a: f32(4, 5), b: f32(3, 5, 2) }, ({ a, b }) => matmul(a, b)),
  fixed('matmul, broadcast both ways', { a: f32(2, 1, 4, 5), b: f32(3, 2, 5) }, ({ a, b }) =>
    matmul(a, b, { transposeB: true }),
  ),
  fixed('matmul, no rows', { a: f32(0, 5), b: f32(5, 2) }, ({ a, b }) => matmul(a, b)),
  {
    name: 'linear with weights',
    weights: { w: f32(6, 5), b: f32(6) },
    runs: [{ x: f32(2, 3, 5) }, { x: f32(4, 1, 5) }],
    build: (g) => {
      const x = g.input('x', 'f32', [symbol('batch'), symbol('step'), 5]);
      return { y: linear(x, g.weight('w', [6, 5]), g.weight('b', [6])) };
    },
  },
];

const batch = symbol('batch');
const side = symbol('side');
const tokens = symbol('tokens');

const layouts: readonly ConformanceCase[] = [
  fixed('reshape', { x: f32(2, 6) }, ({ x }) => reshape(x, [3, 2, 2])),
  fixed('reshape of nothing', { x: f32(2, 0, 3) }, ({ x }) => reshape(x, [0, 5])),
  fixed('transpose', { x: f32(2, 3, 4, 5) }, ({ x }) => transpose(x, [2, 0, 3, 1])),
  fixed('transpose i32', { x: i32([1, 2, 3, 4, 5, 6], 2, 3) }, ({ x }) => transpose(x, [1, 0])),
  fixed('broadcastTo', { x: f32(3, 1) }, ({ x }) => broadcastTo(x, [2, 3, 4])),
  fixed('slice', { x: f32(3, 6, 2) }, ({ x }) => slice(x, 1, 2, 5)),
  fixed('slice of nothing', { x: f32(3, 6) }, ({ x }) => slice(x, -1, 4, 4)),
  fixed('concat', { a: f32(2, 1, 3), b: f32(2, 4, 3), c: f32(2, 0, 3) }, ({ a, b, c }) =>
    concat([a, b, c], 1),
  ),
  fixed('concat i32', { a: i32([1, 2], 2), b: i32([3], 1) }, ({ a, b }) => concat([a, b], 0)),
  {
    name: 'symbolic extents: patches cut, joined, sliced and put back',
    runs: [
      { images: f32(2, 3, 8, 8), resize: f32(4, 5), extra: f32(2, 3, 12) },
      { images: f32(1, 3, 2, 2), resize: f32(1, 5), extra: f32(1, 7, 12) },
    ],
    build: (g) => {
      const size = multiplyDims(side, 2);
      const images = g.input('images', 'f32', [batch, 3, size, size]);
      const resize = g.input('resize', 'f32', [side, 5]);
      const extra = g.input('extra', 'f32', [batch, tokens, 12]);
      const area = multiplyDims(side, side);
      const patches = reshape(transpose(reshape(images, [batch, 3, side, 2, side, 2]), [0, 2, 4, 3, 5, 1]), [
        batch,
        area,
        12,
      ]);
      const joined = concat([patches, extra], 1);
      const grid = reshape(matmul(resize, transpose(resize, [1, 0])), [1, area, 1]);
      const back = slice(joined, 1, area, addDims(area, tokens));
      const image = transpose(
        reshape(add(patches, broadcastTo(grid, [batch, area, 12])), [batch, side, side, 2, 2, 3]),
        [0, 5, 1, 3, 2, 4],
      );
      return { joined, back, image: reshape(image, [batch, 3, size, size]) };
    },
  },
];

const indexing: readonly ConformanceCase[] = [
  fixed('gather', { table: f32(4, 3), rows: i32([3, 0, 3, 1], 2, 2) }, ({ table, rows }) =>
    gather(table, rows),
  ),
  fixed('gather of a vector', { table: f32(4), rows: i32([2], 1) }, ({ table, rows }) => gather(table, rows)),
  fixed('scatterRows', { rows: f32(4, 3), at: i32([2, 0, 2, 1], 4) }, ({ rows, at }) =>
    scatterRows([5, 3], at, rows),
  ),
  fixed('scatterRows of a grid', { rows: f32(2, 2), at: i32([1, 0, 1, 1], 2, 2) }, ({ rows, at }) =>
    scatterRows([2], at, rows),
  ),
  fixed('takeAlong', { x: f32(2, 2, 4), at: i32([3, 0, 1, 1], 2, 2, 1) }, ({ x, at }) => takeAlong(x, at)),
  fixed('topK', { x: f32(3, 9) }, ({ x }) => topK(x, 4)),
  fixed('topK with ties', { x: new Tensor('float32', Float32Array.of(1, 3, 3, 2, 3, 1), [1, 6]) }, ({ x }) =>
    topK(x, 6),
  ),
  fixed('writeRows', { b: f32(2, 5, 3), r: f32(2, 2, 3), at: i32([2], 1) }, ({ b, r, at }) =>
    writeRows(b, r, at, 1),
  ),
  fixed(
    'writeRowsAt',
    { b: f32(2, 3, 5, 2), r: f32(2, 3, 2, 2), at: i32([4, 0, 1, 2], 2, 2) },
    ({ b, r, at }) => writeRowsAt(b, r, at),
  ),
  fixed('writeRows on the first axis', { b: f32(4, 3), r: f32(4, 3), at: i32([0], 1) }, ({ b, r, at }) =>
    writeRows(b, r, at, 0),
  ),
];

const reductions: readonly ConformanceCase[] = [
  ...[[], [0], [1], [-1], [0, 2], [0, 1, 2]].flatMap((axes) => [
    fixed(`sum over ${axes}`, { x: f32(2, 3, 4) }, ({ x }) => sum(x, axes)),
    fixed(`max over ${axes}`, { x: f32(2, 3, 4) }, ({ x }) => max(x, axes)),
  ]),
  fixed('sum over an axis of extent 1', { x: f32(3, 1) }, ({ x }) => sum(x, [1])),
  fixed('sum over nothing', { x: f32(3, 0) }, ({ x }) => sum(x, [1])),
  fixed('mean', { x: f32(3, 4) }, ({ x }) => mean(x, -1)),
];

const composites: readonly ConformanceCase[] = [
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

const stateful: readonly ConformanceCase[] = [
  {
    name: 'attention to a cache that grows',
    stateDims: { batch: 2 },
    states: ['k', 'v'],
    runs: [0, 1, 2].map((at) => ({ x: f32(2, 3, at === 2 ? 3 : 1, 4), at: i32([at], 1) })),
    build: (g) => {
      const x = g.input('x', 'f32', [batch, 3, symbol('step'), 4]);
      const at = g.input('at', 'i32', [1]);
      const places = g.constant(Int32Array.of(0, 1, 2, 3, 4), [5], 'i32');
      const pastBias = select(less(places, at), 0, HIDDEN);
      const [pastK, pastV] = ['k', 'v'].map((name) => {
        const cache = g.state(name, [batch, 3, 5, 4]);
        g.update(name, writeRows(cache, mul(x, name === 'k' ? 1 : 0.5), at, 2));
        return cache;
      });
      return { y: cachedAttention(x, x, mul(x, 0.5), { scale: 0.5, pastK, pastV, pastBias }) };
    },
  },
  {
    name: 'a state read after it is updated, and its old value too',
    stateDims: {},
    states: ['total'],
    runs: [{ x: f32(3) }, { x: f32(3) }],
    build: (g) => {
      const x = g.input('x', 'f32', [3]);
      const total = g.state('total', [3]);
      const next = add(total, x);
      g.update('total', next);
      return { change: sub(next, total), product: mul(next, exp(total)) };
    },
  },
  {
    name: 'two states that swap their values',
    stateDims: {},
    states: ['a', 'b'],
    runs: [{ x: f32(2) }, { x: f32(2) }, { x: f32(2) }],
    build: (g) => {
      const [a, b] = [g.state('a', [2]), g.state('b', [2])];
      g.update('a', add(b, g.input('x', 'f32', [2])));
      g.update('b', a);
      return { sum: add(a, b) };
    },
  },
  {
    name: 'integers kept from run to run',
    stateDims: {},
    states: ['codes', 'last'],
    runs: [0, 2].map((at) => ({ x: i32([7 + at, -3], 1, 2), at: i32([at], 1) })),
    build: (g) => {
      const x = g.input('x', 'i32', [1, 2]);
      const codes = g.state('codes', [1, 4], 'i32');
      g.update('codes', writeRows(codes, x, g.input('at', 'i32', [1]), 1));
      const last = g.state('last', [1, 2], 'i32');
      g.update('last', add(last, x));
      return { before: mul(codes, 1) };
    },
  },
  {
    name: 'rows written into a state whose new value is read as well',
    stateDims: {},
    states: ['rows'],
    runs: [0, 2, 1].map((at) => ({ x: f32(2, 3), at: i32([at], 1) })),
    build: (g) => {
      const rows = g.state('rows', [4, 3]);
      const next = writeRows(rows, g.input('x', 'f32', [2, 3]), g.input('at', 'i32', [1]), 0);
      g.update('rows', next);
      return { y: sum(next, [0]) };
    },
  },
];

/** Cases that every backend must pass: each operation, dtype, odd shape and use of state. */
const convolution: readonly ConformanceCase[] = [
  ...(
    [
      [[2, 3, 5, 6], [4, 3, 3, 3], {}],
      [[1, 2, 7, 5], [3, 2, 3, 2], { stride: 2, padding: [1, 0, 2, 1] }],
      [[2, 2, 6, 6], [2, 2, 1, 1], { stride: [2, 3] }],
      [[2, 2, 5, 6], [3, 2, 1, 1], { padding: [0, 0, 1, 2] }],
      [[1, 2, 4, 5], [2, 2, 1, 1], { padding: [2, 1, 0, 1], stride: [1, 2] }],
      [[1, 2, 8, 9], [2, 2, 1, 7], { padding: [0, 3, 0, 3] }],
      [[1, 1, 9, 9], [2, 1, 3, 3], { dilation: 2, stride: [1, 2], padding: 2 }],
      [[2, 2, 3, 3], [3, 2, 2, 2], { padding: 3 }],
    ] as const
  ).map(([shape, kernel, options]) =>
    fixed(
      `conv2d [${shape}] [${kernel}] ${JSON.stringify(options)}`,
      { x: f32(...shape), kernel: f32(...kernel) },
      ({ x, kernel }) => conv2d(x, kernel, options),
    ),
  ),
  ...([{ kernel: 2 }, { kernel: [3, 2] }] as const).flatMap((options) => [
    fixed(`maxPool2d ${JSON.stringify(options)}`, { x: f32(2, 3, 6, 4) }, ({ x }) => maxPool2d(x, options)),
    fixed(`averagePool2d ${JSON.stringify(options)}`, { x: f32(2, 3, 6, 4) }, ({ x }) =>
      averagePool2d(x, options),
    ),
  ]),
];

/** Windows that overlap have no gradients. */
const overlappingPools: readonly ConformanceCase[] = (
  [
    { kernel: 3, stride: 2 },
    { kernel: 3, stride: 1, padding: 1 },
    { kernel: [2, 3], stride: [1, 2], padding: [1, 1, 0, 1] },
  ] as const
).flatMap((options) => [
  fixed(`overlapping maxPool2d ${JSON.stringify(options)}`, { x: f32(2, 2, 7, 8) }, ({ x }) =>
    maxPool2d(x, options),
  ),
  fixed(`overlapping averagePool2d ${JSON.stringify(options)}`, { x: f32(2, 2, 7, 8) }, ({ x }) =>
    averagePool2d(x, options),
  ),
]);

/** Graphs with feeds, for all operations; {@link checkConformance} runs them. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...convolution,
  ...overlappingPools,
  ...elementwise,
  ...products,
  ...layouts,
  ...indexing,
  ...reductions,
  ...composites,
  ...stateful,
];
