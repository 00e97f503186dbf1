import { type Shape, sameDim } from '../dim';
import type { Value } from '../graph';
import { broadcastTo, reshape } from '../ops/layout';
import { sum } from '../ops/reduce';

/** The gradient of broadcasting to the shape of `gradient`: summed over the repeated axes, back to `shape`. */
export function unbroadcast(gradient: Value, shape: Shape): Value {
  const lead = gradient.shape.length - shape.length;
  const axes = gradient.shape.flatMap((dim, axis) =>
    axis < lead || (shape[axis - lead] === 1 && !sameDim(dim, 1)) ? [axis] : [],
  );
  const summed = axes.length === 0 ? gradient : sum(gradient, axes);
  return lead === 0 ? summed : reshape(summed, shape);
}

/** Zeros of a shape. */
export function zeros(beside: Value, shape: Shape): Value {
  return broadcastTo(beside.graph.constant(Float64Array.of(0), []), shape);
}
