import { addDims, multiplyDims, symbol } from '../dim';
import { add } from '../ops/elementwise';
import { gather, scatterRows, takeAlong, topK, writeRows } from '../ops/indexing';
import { broadcastTo, concat, reshape, slice, transpose } from '../ops/layout';
import { linear, matmul } from '../ops/matmul';
import { max, mean, sum } from '../ops/reduce';
import { writeRowsAt } from '../ops/write-rows-at';
import { Tensor } from '../tensor';
import { type ConformanceCase, f32, fixed, i32 } from './conformance-case';

/** Products of matrices. */
export const productCases: readonly ConformanceCase[] = [
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

/** What moves numbers about. */
export const layoutCases: readonly ConformanceCase[] = [
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

/** What reads and writes by indices. */
export const indexingCases: readonly ConformanceCase[] = [
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
    { b: f32(2, 3, 5, 2), r: f32(2, 3, 2, 2), at: i32([4, 0, 1, 2], 2, 2), every: i32([0, 1, 2, 3, 4], 5) },
    ({ b, r, at, every }) => writeRowsAt(b, r, at, every),
  ),
  fixed('writeRows on the first axis', { b: f32(4, 3), r: f32(4, 3), at: i32([0], 1) }, ({ b, r, at }) =>
    writeRows(b, r, at, 0),
  ),
];

/** Sums, means and maxima. */
export const reductionCases: readonly ConformanceCase[] = [
  ...[[], [0], [1], [-1], [0, 2], [0, 1, 2]].flatMap((axes) => [
    fixed(`sum over ${axes}`, { x: f32(2, 3, 4) }, ({ x }) => sum(x, axes)),
    fixed(`max over ${axes}`, { x: f32(2, 3, 4) }, ({ x }) => max(x, axes)),
  ]),
  fixed('sum over an axis of extent 1', { x: f32(3, 1) }, ({ x }) => sum(x, [1])),
  fixed('sum over nothing', { x: f32(3, 0) }, ({ x }) => sum(x, [1])),
  fixed('mean', { x: f32(3, 4) }, ({ x }) => mean(x, -1)),
];
