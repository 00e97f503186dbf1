import {
  addDims,
  type Dim,
  evaluateDim,
  formatShape,
  type Shape,
  sameDim,
  sizeOf,
  subtractDims,
} from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import {
  allocate,
  broadcastShapes,
  broadcastStrides,
  forEachOffset,
  type OpDefinition,
  resolveAxis,
  stridesOf,
} from '../op';

export const reshapeOp: OpDefinition<{ readonly shape: Shape }> = {
  name: 'reshape',
  infer([x], { shape }) {
    if (!sameDim(sizeOf(x.shape), sizeOf(shape))) {
      throw new DetailFlowError(
        'shape',
        `reshape: ${formatShape(x.shape)} does not fill ${formatShape(shape)}`,
      );
    }
    return { shape, dtype: x.dtype };
  },
  evaluate: ([x]) => x.data,
};

export const transposeOp: OpDefinition<{ readonly permutation: readonly number[] }> = {
  name: 'transpose',
  infer([x], { permutation }) {
    const rank = x.shape.length;
    if (
      permutation.length !== rank ||
      new Set(permutation).size !== rank ||
      permutation.some((a) => !(a in x.shape))
    ) {
      throw new DetailFlowError(
        'shape',
        `transpose: ${formatShape(permutation)} is no order of the axes of ${formatShape(x.shape)}`,
      );
    }
    return { shape: permutation.map((axis) => x.shape[axis]), dtype: x.dtype };
  },
  evaluate([x], { permutation }, { shape, dtype }) {
    const out = allocate(dtype, x.data.length);
    const strides = stridesOf(x.shape);
    forEachOffset(shape, [permutation.map((axis) => strides[axis])], (i, [from]) => {
      out[i] = x.data[from];
    });
    return out;
  },
};

export const broadcastToOp: OpDefinition<{ readonly shape: Shape }> = {
  name: 'broadcastTo',
  infer([x], { shape }) {
    const joint = broadcastShapes('broadcastTo', x.shape, shape, sameDim);
    if (joint.length !== shape.length || !joint.every((dim, axis) => sameDim(dim, shape[axis]))) {
      throw new DetailFlowError(
        'shape',
        `broadcastTo: ${formatShape(x.shape)} cannot become ${formatShape(shape)}`,
      );
    }
    return { shape, dtype: x.dtype };
  },
  evaluate([x], _attrs, { shape, dtype }) {
    const out = allocate(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    forEachOffset(shape, [broadcastStrides(x.shape, shape)], (i, [from]) => {
      out[i] = x.data[from];
    });
    return out;
  },
};

type SliceAttrs = { readonly axis: number; readonly start: Dim; readonly end: Dim };

export const sliceOp: OpDefinition<SliceAttrs> = {
  name: 'slice',
  infer([x], { axis, start, end }) {
    const length = subtractDims(end, start);
    const bounds = [start, length, subtractDims(x.shape[axis], end)];
    if (bounds.some((bound) => typeof bound === 'number' && bound < 0)) {
      throw new DetailFlowError(
        'shape',
        `slice: ${start}..${end} of axis ${axis} of ${formatShape(x.shape)}`,
      );
    }
    return { shape: x.shape.map((dim, a) => (a === axis ? length : dim)), dtype: x.dtype };
  },
  evaluate([x], { axis, start, end }, { shape, dtype, bindings }) {
    const first = evaluateDim(start, bindings);
    if (first < 0 || evaluateDim(end, bindings) > x.shape[axis]) {
      throw new DetailFlowError(
        'shape',
        `slice: ${first}..${evaluateDim(end, bindings)} of ${formatShape(x.shape)}`,
      );
    }
    const out = allocate(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    const strides = stridesOf(x.shape);
    forEachOffset(shape, [strides], (i, [from]) => {
      out[i] = x.data[from + first * strides[axis]];
    });
    return out;
  },
};

export const concatOp: OpDefinition<{ readonly axis: number }> = {
  name: 'concat',
  infer(inputs, { axis }) {
    const [first] = inputs;
    for (const other of inputs) {
      const fits =
        other.dtype === first.dtype &&
        other.shape.length === first.shape.length &&
        other.shape.every((dim, a) => a === axis || sameDim(dim, first.shape[a]));
      if (!fits) {
        throw new DetailFlowError(
          'shape',
          `concat: ${first.dtype} ${formatShape(first.shape)} and ${other.dtype} ${formatShape(other.shape)} along axis ${axis}`,
        );
      }
    }
    const total = inputs.reduce<Dim>((sum, input) => addDims(sum, input.shape[axis]), 0);
    return { shape: first.shape.map((dim, a) => (a === axis ? total : dim)), dtype: first.dtype };
  },
  evaluate(inputs, { axis }, { shape, dtype }) {
    const out = allocate(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1);
    let column = 0;
    for (const input of inputs) {
      const width = input.shape[axis] * inner;
      for (let row = 0; row < outer; row++) {
        out.set(input.data.subarray(row * width, (row + 1) * width), row * shape[axis] * inner + column);
      }
      column += width;
    }
    return out;
  },
};

/** The same elements in row-major order under another shape. */
export const reshape = (x: Value, shape: Shape): Value => x.graph.emit(reshapeOp, [x], { shape });

/** Axes in another order: result axis i is axis permutation[i] of x. */
export const transpose = (x: Value, permutation: readonly number[]): Value =>
  x.graph.emit(transposeOp, [x], { permutation });

/** x repeated along new leading axes and axes of extent 1. */
export const broadcastTo = (x: Value, shape: Shape): Value => x.graph.emit(broadcastToOp, [x], { shape });

/** Elements start..end-1 along an axis. */
export function slice(x: Value, axis: number, start: Dim, end: Dim): Value {
  return x.graph.emit(sliceOp, [x], { axis: resolveAxis('slice', axis, x.shape.length), start, end });
}

/** Values one after the other along an axis. */
export function concat(values: readonly Value[], axis: number): Value {
  if (values.length === 0) throw new DetailFlowError('invalid-argument', 'concat: nothing to join');
  return values[0].graph.emit(concatOp, values, {
    axis: resolveAxis('concat', axis, values[0].shape.length),
  });
}
