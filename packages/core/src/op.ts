import { type Bindings, type Dim, formatShape, type Shape } from './dim';
import { DetailFlowError } from './errors';
import type { Value } from './graph';

/** Element types of graph values. f16 and int8 exist as storage of weights only. */
export type DType = 'f32' | 'i32' | 'bool';

/** Arrays that constants of a graph are given as. */
export type TypedData = Float32Array | Float64Array | Int32Array | Uint8Array;

/** Attributes of a node: plain data. */
export type Attributes = Readonly<
  Record<string, number | string | boolean | readonly number[] | Dim | Shape | TypedData | undefined>
>;

/** A concrete tensor inside the reference interpreter: f32 values are held in float64. */
export interface ReferenceArray {
  readonly data: Float64Array | Int32Array | Uint8Array;
  readonly shape: readonly number[];
}

/** What the interpreter knows when it evaluates a node. */
export interface EvaluationContext {
  /** Concrete shape of the result. */
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly bindings: Bindings;
}

/**
 * An operation: its shape rule, and either its meaning (`evaluate`, a primitive) or its decomposition into other
 * operations (a composite, which a backend may also run as one fused kernel).
 */
export interface OpDefinition<A extends Attributes = Attributes> {
  readonly name: string;
  /** Shape and dtype of the result. @throws DetailFlowError `shape` or `dtype` when the inputs do not fit. */
  infer(inputs: readonly Value[], attrs: A): { shape: Shape; dtype: DType };
  /** The reference meaning, in float64. */
  evaluate?(inputs: readonly ReferenceArray[], attrs: A, context: EvaluationContext): ReferenceArray['data'];
  /** The same value from other operations. */
  decompose?(inputs: readonly Value[], attrs: A): Value;
}

/** Throws unless the value has one of the dtypes. */
export function requireDType(op: string, value: Value, ...allowed: DType[]): void {
  if (!allowed.includes(value.dtype)) {
    throw new DetailFlowError('dtype', `${op}: expected ${allowed.join(' or ')}, got ${value.dtype}`);
  }
}

/** A fresh array of a dtype, as the interpreter holds it. */
export function allocate(dtype: DType, length: number): ReferenceArray['data'] {
  if (dtype === 'f32') return new Float64Array(length);
  return dtype === 'i32' ? new Int32Array(length) : new Uint8Array(length);
}

/** Row-major strides. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

/** Strides that read `shape` as if it had been broadcast to `target`. */
export function broadcastStrides(shape: readonly number[], target: readonly number[]): number[] {
  const own = stridesOf(shape);
  const lead = target.length - shape.length;
  return target.map((_, axis) => (axis < lead || shape[axis - lead] === 1 ? 0 : own[axis - lead]));
}

/** Calls `visit` with the offset into each strided operand, in row-major order of `shape`. */
export function forEachOffset(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (index: number, offsets: readonly number[]) => void,
): void {
  const total = shape.reduce((a, b) => a * b, 1);
  const position = new Array<number>(shape.length).fill(0);
  const offsets = new Array<number>(strides.length).fill(0);
  for (let index = 0; index < total; index++) {
    visit(index, offsets);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      position[axis]++;
      for (let k = 0; k < strides.length; k++) offsets[k] += strides[k][axis];
      if (position[axis] < shape[axis]) break;
      for (let k = 0; k < strides.length; k++) offsets[k] -= strides[k][axis] * shape[axis];
      position[axis] = 0;
    }
  }
}

/** A non-negative axis. @throws DetailFlowError `shape` */
export function resolveAxis(op: string, axis: number, rank: number): number {
  const resolved = axis < 0 ? rank + axis : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= rank) {
    throw new DetailFlowError('shape', `${op}: axis ${axis} of a tensor with ${rank} axes`);
  }
  return resolved;
}

/** The common shape of two operands: equal extents, or 1 against anything. */
export function broadcastShapes(op: string, a: Shape, b: Shape, same: (x: Dim, y: Dim) => boolean): Shape {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    if (!same(x, y) && x !== 1 && y !== 1) {
      throw new DetailFlowError('shape', `${op}: ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
    }
    out.push(x === 1 ? y : x);
  }
  return out;
}
