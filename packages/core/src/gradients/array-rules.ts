import { addDims, type Dim, sizeOf, subtractDims } from '../dim';
import { DetailFlowError } from '../errors';
import { extent } from '../graph';
import { add, div, equal, less, mul, select } from '../ops/elementwise';
import { gather, scatterRows, writeRows } from '../ops/indexing';
import { broadcastTo, concat, reshape, slice, transpose } from '../ops/layout';
import { matmul } from '../ops/matmul';
import { sum } from '../ops/reduce';
import type { GradientRule } from './rule';
import { unbroadcast, zeros } from './unbroadcast';

const matmulRule: GradientRule = ({ inputs, attrs, upstream }) => {
  const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
  let [a, b] = inputs;
  let g = upstream;
  if (b.shape.length === 2 && a.shape.length > 2 && !transposeA) {
    // One matrix for all rows: a single product, instead of one for every leading index and a sum over them.
    const rows = sizeOf(a.shape.slice(0, -1));
    a = reshape(a, [rows, extent(a, -1)]);
    g = reshape(g, [rows, extent(g, -1)]);
  }
  const da = transposeA
    ? matmul(b, g, { transposeA: transposeB, transposeB: true })
    : matmul(g, b, { transposeB: !transposeB });
  const db = transposeB
    ? matmul(g, a, { transposeA: true, transposeB: transposeA })
    : matmul(a, g, { transposeA: !transposeA });
  const [first] = inputs;
  const shaped = a === first ? unbroadcast(da, first.shape) : reshape(da, first.shape);
  return [shaped, unbroadcast(db, b.shape)];
};

const sliceRule: GradientRule = ({ inputs: [x], attrs, upstream }) => {
  const { axis, start, end } = attrs as { axis: number; start: Dim; end: Dim };
  const blank = (length: Dim) =>
    length === 0
      ? []
      : [
          zeros(
            x,
            x.shape.map((dim, a) => (a === axis ? length : dim)),
          ),
        ];
  return [concat([...blank(start), upstream, ...blank(subtractDims(x.shape[axis], end))], axis)];
};

const concatRule: GradientRule = ({ inputs, attrs, upstream }) => {
  const axis = attrs.axis as number;
  let start: Dim = 0;
  return inputs.map((input) => {
    const end = addDims(start, input.shape[axis]);
    const part = slice(upstream, axis, start, end);
    start = end;
    return part;
  });
};

/** Every index puts its gradient into its column: one-hot rows, summed. */
const takeAlongRule: GradientRule = ({ inputs: [x, indices], upstream }) => {
  const width = extent(x, -1);
  if (typeof width !== 'number') throw unsupported('takeAlong', 'the last extent must be known');
  const lead = indices.shape.slice(0, -1);
  const taken = extent(indices, -1);
  const columns = x.graph.constant(counting(width), [width], 'i32');
  const hit = equal(reshape(indices, [...lead, taken, 1]), columns); // [..., k, W]
  const spread = select(hit, reshape(upstream, [...lead, taken, 1]), 0);
  return [reshape(sum(spread, [-2]), x.shape), undefined];
};

const writeRowsRule: GradientRule = ({ inputs: [, rows, offset], attrs, upstream }) => {
  const axis = attrs.axis as number;
  const count = rows.shape[axis];
  if (typeof count !== 'number') throw unsupported('writeRows', 'the number of rows must be known');
  const order = [axis, ...rows.shape.keys()].filter((a, i) => i === 0 || a !== axis);
  const back = order.map((_, a) => order.indexOf(a));
  const places = add(upstream.graph.constant(counting(count), [count], 'i32'), offset);
  const written = transpose(gather(transpose(upstream, order), places), back);
  return [writeRows(upstream, zeros(rows, rows.shape), offset, axis), written, undefined];
};

export const arrayRules: Readonly<Record<string, GradientRule>> = {
  matmul: matmulRule,
  reshape: ({ inputs: [x], upstream }) => [reshape(upstream, x.shape)],
  transpose: ({ attrs, upstream }) => {
    const permutation = attrs.permutation as readonly number[];
    return [
      transpose(
        upstream,
        permutation.map((_, axis) => permutation.indexOf(axis)),
      ),
    ];
  },
  broadcastTo: ({ inputs: [x], upstream }) => [unbroadcast(upstream, x.shape)],
  slice: sliceRule,
  concat: concatRule,
  gather: ({ inputs: [table, indices], upstream }) => [
    scatterRows(table.shape, indices, upstream),
    undefined,
  ],
  scatterRows: ({ inputs: [indices], upstream }) => [undefined, gather(upstream, indices)],
  takeAlong: takeAlongRule,
  writeRows: writeRowsRule,
  sum: ({ inputs: [x], upstream }) => [broadcastTo(upstream, x.shape)],
  /** Equal maxima share it. */
  max: ({ inputs: [x], attrs, output, upstream }) => {
    const hit = select(less(x, output), 0, 1);
    const share = div(upstream, sum(hit, attrs.axes as readonly number[]));
    return [mul(hit, share)];
  },
};

const counting = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

function unsupported(op: string, why: string): DetailFlowError {
  return new DetailFlowError('unsupported', `the gradient of ${op}: ${why}`);
}
