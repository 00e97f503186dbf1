import { DetailFlowError } from '../errors';
import { extent, type Value } from '../graph';
import { broadcastStrides, forEachOffset, type OpDefinition, requireDType, resolveAxis } from '../op';
import { mul } from './elementwise';

type ReduceAttrs = { readonly axes: readonly number[] };

function reduction(
  name: string,
  initial: number,
  step: (sum: number, x: number) => number,
): OpDefinition<ReduceAttrs> {
  return {
    name,
    infer([x], { axes }) {
      requireDType(name, x, 'f32');
      return { shape: x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)), dtype: 'f32' };
    },
    evaluate([x], _attrs, { shape }) {
      const out = new Float64Array(shape.reduce((a, b) => a * b, 1)).fill(initial);
      forEachOffset(x.shape, [broadcastStrides(shape, x.shape)], (i, [to]) => {
        out[to] = step(out[to], x.data[i]);
      });
      return out;
    },
  };
}

export const sumOp = reduction('sum', 0, (sum, x) => sum + x);
export const maxOp = reduction('max', Number.NEGATIVE_INFINITY, Math.max);

/** Sum over the axes, which stay with extent 1. */
export const sum = (x: Value, axes: readonly number[]): Value =>
  x.graph.emit(sumOp, [x], { axes: resolve(x, axes) });

/** Largest value over the axes, which stay with extent 1. */
export const max = (x: Value, axes: readonly number[]): Value =>
  x.graph.emit(maxOp, [x], { axes: resolve(x, axes) });

/** Mean over one axis of known extent, which stays with extent 1. */
export function mean(x: Value, axis: number): Value {
  const count = extent(x, axis);
  if (typeof count !== 'number')
    throw new DetailFlowError('shape', `mean: the extent of axis ${axis} is ${count}`);
  return mul(sum(x, [axis]), 1 / count);
}

function resolve(x: Value, axes: readonly number[]): readonly number[] {
  return axes.map((axis) => resolveAxis('reduce', axis, x.shape.length));
}
