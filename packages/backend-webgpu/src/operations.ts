import { type Bindings, DetailFlowError, evaluateShape, stridesOf, type Value } from '@detailflow/core';
import type { Kernel } from './kernel';
import { attentionKernel, cachedAttentionKernel, ropeKernel } from './kernels/attention';
import { averagePoolKernel, conv2dKernel, maxPoolKernel } from './kernels/convolution';
import { broadcastView, type View, viewNumbers, wholeView } from './kernels/coordinates';
import {
  concatKernel,
  gatherKernel,
  scatterRowsKernel,
  takeAlongKernel,
  writeRowsInPlaceKernel,
  writeRowsKernel,
} from './kernels/indexing';
import { pointwiseKernel, pointwiseNumbers } from './kernels/pointwise';
import { planReduction } from './kernels/reduce';
import { rowKernels, topKKernel } from './kernels/rows';
import type { Program, Slot } from './program';
import { sizeOf } from './size';

/** An array and its shape in this run. */
export interface Shaped {
  readonly array: Slot;
  readonly shape: readonly number[];
  /** How its elements lie in the array, where that is not one after the other. */
  readonly view?: View;
}

/** What an operation is computed from. */
export interface Invocation {
  /** Where its kernels are added. */
  readonly program: Program;
  readonly value: Value;
  readonly inputs: readonly Shaped[];
  /** Shape of the result, which may have its two middle axes changed over. */
  readonly shape: readonly number[];
  readonly isTurned?: boolean;
  /** The first input is not needed any more, and may be written over. */
  readonly mayOverwrite: boolean;
}

/** Composite operations that have a kernel of their own here. */
export const fusedOperations: ReadonlySet<string> = new Set([
  ...Object.keys(rowKernels),
  'gelu',
  'geluExact',
  'silu',
  'rope',
  'attention',
  'cachedAttention',
]);

/** @throws DetailFlowError `unsupported` for an operation that has no kernel */
export function runOperation(call: Invocation): Slot {
  const run = table[call.value.op] ?? (call.value.op in rowKernels ? runRows : undefined);
  if (!run) {
    throw new DetailFlowError('unsupported', `the WebGPU backend has no kernel for "${call.value.op}"`);
  }
  return run(call);
}

type Run = (call: Invocation) => Slot;

const typeOf = ({ dtype }: Value) => (dtype === 'f32' ? 'float32' : 'int32');
const arrays = (inputs: readonly Shaped[]) => inputs.map(({ array }) => array);
const last = (shape: readonly number[]) => shape[shape.length - 1];

function runRows({ program, value, inputs, shape }: Invocation): Slot {
  const width = last(inputs[0].shape);
  const rows = inputs[0].array.size / Math.max(1, width);
  const { epsilon } = value.attrs;
  return program.dispatch(rowKernels[value.op], arrays(inputs), {
    ...{ size: sizeOf(shape), type: 'float32', groups: rows },
    numbers: [rows, width, ...(epsilon === undefined ? [] : [epsilon as number])],
  });
}

const topK: Run = ({ program, value, inputs, shape }) => {
  const width = last(inputs[0].shape);
  const rows = inputs[0].array.size / width;
  return program.dispatch(topKKernel, arrays(inputs), {
    ...{ size: sizeOf(shape), type: 'int32', groups: rows },
    numbers: [rows, width, value.attrs.k as number],
  });
};

const reduction: Run = ({ program, value, inputs: [x] }) => {
  const kind = value.op as 'sum' | 'max';
  const plan = planReduction(kind, x.shape, value.attrs.axes as number[]);
  if (!plan) {
    throw new DetailFlowError('unsupported', `${kind}: too many separate axes of [${x.shape.join(', ')}]`);
  }
  const { kernel, groups, numbers, size } = plan;
  return program.dispatch(kernel, [x.array], { size, type: 'float32', groups, numbers });
};

/** An array made whole under a larger shape. */
function broadcast(program: Program, { array, shape }: Shaped, target: readonly number[]): Slot {
  const rank = target.length;
  const kernel = program.kernel(`broadcast ${rank}`, () => pointwiseKernel('v0', ['view'], rank));
  const numbers = pointwiseNumbers(target, [broadcastView(wholeView(shape), target)]);
  return program.dispatch(kernel, [array], { size: sizeOf(target), type: 'float32', numbers });
}

const matmul: Run = ({ program, value, inputs: [a, b], shape }) => {
  const { transposeA, transposeB } = value.attrs as { transposeA: boolean; transposeB: boolean };
  const size = sizeOf(shape);
  const inner = transposeA ? a.shape[a.shape.length - 2] : last(a.shape);
  if (size === 0 || inner === 0) return program.zeros(size, 'float32');
  const batch = shape.slice(0, -2);
  const temporary: Slot[] = [];
  // tfjs knows no halves.
  const wide = ({ array, shape: dims }: Shaped): Shaped => {
    const widened = program.widened(array);
    temporary.push(widened);
    return { array: widened, shape: dims };
  };
  const whole = (x: Shaped): Shaped => {
    const own = x.shape.slice(0, -2);
    if (sizeOf(own) === sizeOf(batch) || sizeOf(own) === 1) return wide(x);
    const target = [...batch, ...x.shape.slice(-2)];
    const array = broadcast(program, x, target);
    temporary.push(array);
    return { array, shape: target };
  };
  const flat = ({ array, shape: dims }: Shaped): Shaped => ({
    array,
    shape: [sizeOf(dims.slice(0, -2)), ...dims.slice(-2)],
  });
  // Many matrices by one are one tall matrix by it.
  const isTall = !transposeA && sizeOf(b.shape.slice(0, -2)) === 1;
  const left = isTall ? { array: wide(a).array, shape: [1, a.array.size / inner, inner] } : flat(whole(a));
  const product = program.product(left, flat(isTall ? wide(b) : whole(b)), { transposeA, transposeB, size });
  for (const array of temporary) program.release(array);
  return product;
};

const viewOf = ({ view, shape }: Shaped): View => view ?? wholeView(shape);

/** Numbers that all kernels of attention take first. */
function attentionNumbers({ value, inputs: [q, k, v], shape, isTurned }: Invocation, keys: number): number[] {
  const [batch, heads, rows, width] = q.shape;
  const views = [q, k, v].map(viewOf).flatMap(({ offset, strides }) => [offset, ...strides]);
  const [b, ...strides] = stridesOf(shape);
  const [h, r] = isTurned ? [strides[1], strides[0]] : strides;
  return [batch * heads * rows, rows, keys, width, value.attrs.scale as number, heads, ...views, b, h, r];
}

const attention: Run = (call) => {
  const { program, inputs, shape } = call;
  const [q, k, , bias] = inputs;
  const [batch, heads, rows, width] = q.shape;
  const keys = k.shape[2];
  const strides = bias ? broadcastView(wholeView(bias.shape), [batch, heads, rows, keys]).strides : [];
  const kernel = program.kernel(`attention ${Math.ceil(width / 64)} ${bias !== undefined}`, () =>
    attentionKernel(width, bias !== undefined),
  );
  return program.dispatch(kernel, arrays(inputs), {
    ...{ size: sizeOf(shape), type: 'float32', groups: batch * heads * rows },
    numbers: [...attentionNumbers(call, keys), ...strides],
  });
};

const cachedAttention: Run = (call) => {
  const { program, inputs, shape } = call;
  const [q, k, , pastK, , , freshBias] = inputs;
  const [batch, heads, rows, width] = q.shape;
  const past = pastK.shape[2];
  const kernel = program.kernel(`cachedAttention ${Math.ceil(width / 64)} ${freshBias !== undefined}`, () =>
    cachedAttentionKernel(width, freshBias !== undefined),
  );
  return program.dispatch(kernel, arrays(inputs), {
    ...{ size: sizeOf(shape), type: 'float32', groups: batch * heads * rows },
    numbers: [...attentionNumbers(call, past + k.shape[2]), past],
  });
};

const rope: Run = ({ program, inputs, shape }) => {
  const [, length, heads, width] = shape;
  const { offset, strides } = viewOf(inputs[0]);
  return program.dispatch(ropeKernel, arrays(inputs), {
    ...{ size: sizeOf(shape), type: 'float32', numbers: [length, heads, width, offset, ...strides] },
  });
};

const gather: Run = ({ program, value, inputs: [x, rows], shape }) => {
  const isFloat = value.dtype === 'f32';
  const kernel = program.kernel(`gather ${isFloat}`, () => gatherKernel(isFloat));
  return program.dispatch(kernel, [x.array, rows.array], {
    ...{ size: sizeOf(shape), type: typeOf(value), numbers: [sizeOf(x.shape.slice(1)), x.shape[0]] },
  });
};

const scatterRows: Run = ({ program, inputs: [places, rows], shape }) =>
  program.dispatch(scatterRowsKernel, [places.array, rows.array], {
    ...{ size: sizeOf(shape), type: 'float32', numbers: [sizeOf(shape.slice(1)), places.array.size] },
  });

const takeAlong: Run = ({ program, value, inputs: [x, columns], shape }) => {
  const isFloat = value.dtype === 'f32';
  const kernel = program.kernel(`takeAlong ${isFloat}`, () => takeAlongKernel(isFloat));
  return program.dispatch(kernel, [x.array, columns.array], {
    ...{ size: sizeOf(shape), type: typeOf(value), numbers: [last(x.shape), last(shape)] },
  });
};

const writeRows: Run = ({ program, value, inputs: [buffer, rows, first], shape, mayOverwrite }) => {
  const axis = value.attrs.axis as number;
  const [inner, extent] = [stridesOf(shape)[axis], shape[axis]];
  const count = rows.shape[axis];
  const type = typeOf(value);
  const [rank, isFloat] = [shape.length, type === 'float32'];
  const source = viewNumbers(rows.shape, [viewOf(rows)]);
  if (mayOverwrite && buffer.array.size > 0) {
    const fresh = sizeOf(rows.shape);
    const kernel = program.kernel(`writeRowsInPlace ${rank} ${type}`, () =>
      writeRowsInPlaceKernel(rank, isFloat),
    );
    return program.dispatch(kernel, [rows.array, first.array], {
      ...{ size: buffer.array.size, type, into: program.hold(buffer.array), groups: Math.ceil(fresh / 64) },
      numbers: [inner, count, extent, fresh, ...source],
    });
  }
  const kernel = program.kernel(`writeRows ${rank} ${type}`, () => writeRowsKernel(rank, isFloat));
  return program.dispatch(kernel, [buffer.array, rows.array, first.array], {
    ...{ size: sizeOf(shape), type, numbers: [inner, count, extent, ...source] },
  });
};

/** Arrays that one kernel joins. */
const MOST_JOINED = 7;

const concat: Run = ({ program, value, inputs, shape }) => {
  const axis = value.attrs.axis as number;
  const inner = stridesOf(shape)[axis];
  const type = typeOf(value);
  const join = (parts: readonly Shaped[], size: number, total: number): Slot => {
    const kernel = program.kernel(`concat ${parts.length}`, () => concatKernel(parts.length));
    let end = 0;
    const ends = parts.map((part) => {
      end += part.shape[axis] * inner;
      return end;
    });
    return program.dispatch(kernel, arrays(parts), { size, type, numbers: [total, ...ends] });
  };
  let parts = inputs.filter(({ array }) => array.size > 0);
  if (parts.length === 0) return program.zeros(sizeOf(shape), type);
  const temporary: Slot[] = [];
  while (parts.length > MOST_JOINED) {
    const some = parts.slice(0, MOST_JOINED);
    const extent = some.reduce((sum, part) => sum + part.shape[axis], 0);
    const joined = shape.map((dim, a) => (a === axis ? extent : dim));
    const array = join(some, sizeOf(joined), extent * inner);
    temporary.push(array);
    parts = [{ array, shape: joined }, ...parts.slice(MOST_JOINED)];
  }
  const whole = join(parts, sizeOf(shape), shape[axis] * inner);
  for (const array of temporary) program.release(array);
  return whole;
};

interface WindowAttrs {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation?: readonly number[];
  readonly kernel?: readonly number[];
}

const windowNumbers = (
  x: Shaped,
  shape: readonly number[],
  kernel: readonly number[],
  attrs: WindowAttrs,
) => [...x.shape.slice(2), ...shape.slice(2), ...kernel, ...attrs.stride, attrs.padding[0], attrs.padding[1]];

const conv2d: Run = ({ program, value, inputs: [x, kernel], shape }) => {
  const attrs = value.attrs as unknown as Required<WindowAttrs>;
  const numbers = windowNumbers(x, shape, kernel.shape.slice(2), attrs);
  return program.dispatch(conv2dKernel, [x.array, kernel.array], {
    ...{ size: sizeOf(shape), type: 'float32' },
    numbers: [...numbers, ...attrs.dilation, x.shape[1], shape[1]],
  });
};

const pool =
  (kernel: Kernel): Run =>
  ({ program, value, inputs: [x], shape }) => {
    const attrs = value.attrs as unknown as Required<WindowAttrs>;
    const numbers = windowNumbers(x, shape, attrs.kernel, attrs);
    return program.dispatch(kernel, [x.array], { size: sizeOf(shape), type: 'float32', numbers });
  };

const table: Readonly<Record<string, Run>> = {
  topK,
  sum: reduction,
  max: reduction,
  matmul,
  attention,
  cachedAttention,
  rope,
  gather,
  scatterRows,
  takeAlong,
  writeRows,
  concat,
  conv2d,
  maxPool2d: pool(maxPoolKernel),
  averagePool2d: pool(averagePoolKernel),
};

/** The shape of a value in a run. */
export const shapeIn = (value: Value, bindings: Bindings): readonly number[] =>
  evaluateShape(value.shape, bindings);
