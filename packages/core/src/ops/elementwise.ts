import { formatShape, sameDim, sameShape } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import {
  allocate,
  broadcastShapes,
  broadcastStrides,
  type DType,
  forEachOffset,
  type OpDefinition,
  requireDType,
} from '../op';
import { errorFunction } from './error-function';

function unary(name: string, compute: (x: number) => number): OpDefinition {
  return {
    name,
    infer([x]) {
      requireDType(name, x, 'f32');
      return { shape: x.shape, dtype: 'f32' };
    },
    evaluate: ([x]) => Float64Array.from(x.data, compute),
  };
}

function binary(
  name: string,
  compute: (x: number, y: number) => number | boolean,
  dtypes: readonly DType[],
  result?: DType,
): OpDefinition {
  return {
    name,
    infer([x, y]) {
      requireDType(name, x, ...dtypes);
      if (x.dtype !== y.dtype) throw new DetailFlowError('dtype', `${name}: ${x.dtype} with ${y.dtype}`);
      return { shape: broadcastShapes(name, x.shape, y.shape, sameDim), dtype: result ?? x.dtype };
    },
    evaluate([x, y], _attrs, { shape, dtype }) {
      const out = allocate(
        dtype,
        shape.reduce((a, b) => a * b, 1),
      );
      forEachOffset(
        shape,
        [broadcastStrides(x.shape, shape), broadcastStrides(y.shape, shape)],
        (i, [a, b]) => {
          out[i] = Number(compute(x.data[a], y.data[b]));
        },
      );
      return out;
    },
  };
}

const numeric: readonly DType[] = ['f32', 'i32'];

export const negOp = unary('neg', (x) => -x);
export const expOp = unary('exp', Math.exp);
export const logOp = unary('log', Math.log);
export const sqrtOp = unary('sqrt', Math.sqrt);
export const tanhOp = unary('tanh', Math.tanh);
export const erfOp = unary('erf', errorFunction);
export const sinOp = unary('sin', Math.sin);
export const cosOp = unary('cos', Math.cos);
export const sigmoidOp = unary('sigmoid', (x) => 1 / (1 + Math.exp(-x)));
export const addOp = binary('add', (x, y) => x + y, numeric);
export const subOp = binary('sub', (x, y) => x - y, numeric);
export const mulOp = binary('mul', (x, y) => x * y, numeric);
export const divOp = binary('div', (x, y) => x / y, ['f32']);
export const maximumOp = binary('maximum', Math.max, ['f32']);
export const lessOp = binary('less', (x, y) => x < y, numeric, 'bool');
export const equalOp = binary('equal', (x, y) => x === y, ['i32'], 'bool');

export const selectOp: OpDefinition = {
  name: 'select',
  infer([condition, x, y]) {
    requireDType('select', condition, 'bool');
    if (x.dtype !== y.dtype) throw new DetailFlowError('dtype', `select: ${x.dtype} with ${y.dtype}`);
    const shape = broadcastShapes('select', x.shape, y.shape, sameDim);
    return { shape: broadcastShapes('select', condition.shape, shape, sameDim), dtype: x.dtype };
  },
  evaluate([condition, x, y], _attrs, { shape, dtype }) {
    const out = allocate(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    const strides = [condition, x, y].map((operand) => broadcastStrides(operand.shape, shape));
    forEachOffset(shape, strides, (i, [c, a, b]) => {
      out[i] = condition.data[c] ? x.data[a] : y.data[b];
    });
    return out;
  },
};

export const stopGradientOp: OpDefinition = {
  name: 'stopGradient',
  infer: ([x]) => ({ shape: x.shape, dtype: x.dtype }),
  evaluate: ([x]) => x.data,
};

export const straightThroughOp: OpDefinition = {
  name: 'straightThrough',
  infer([hard, soft]) {
    requireDType('straightThrough', hard, 'f32');
    requireDType('straightThrough', soft, 'f32');
    if (!sameShape(hard.shape, soft.shape)) {
      throw new DetailFlowError(
        'shape',
        `straightThrough: ${formatShape(hard.shape)} for ${formatShape(soft.shape)}`,
      );
    }
    return { shape: hard.shape, dtype: 'f32' };
  },
  evaluate: ([hard]) => hard.data,
};

/** A value, or a number that becomes a scalar of the other operand's dtype. */
export type Operand = Value | number;

/** -x, element by element. */
export const neg = (x: Value): Value => x.graph.emit(negOp, [x], {});
/** e to the power x. */
export const exp = (x: Value): Value => x.graph.emit(expOp, [x], {});
/** Natural logarithm. */
export const log = (x: Value): Value => x.graph.emit(logOp, [x], {});
/** The square root, element by element; NaN below 0. */
export const sqrt = (x: Value): Value => x.graph.emit(sqrtOp, [x], {});
/** The hyperbolic tangent, element by element. */
export const tanh = (x: Value): Value => x.graph.emit(tanhOp, [x], {});
/** The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x. */
export const erf = (x: Value): Value => x.graph.emit(erfOp, [x], {});
/** Sine of radians; devices are exact to 1e-6 up to some thousand radians. */
export const sin = (x: Value): Value => x.graph.emit(sinOp, [x], {});
/** Cosine of radians, as {@link sin}. */
export const cos = (x: Value): Value => x.graph.emit(cosOp, [x], {});
/** 1 / (1 + e^-x). */
export const sigmoid = (x: Value): Value => x.graph.emit(sigmoidOp, [x], {});

/** x + y, f32 or i32, broadcasting as NumPy does (as all operations of two operands here). */
export const add = (x: Operand, y: Operand): Value => emitBinary(addOp, x, y);
/** x - y, element by element, broadcast as in NumPy. */
export const sub = (x: Operand, y: Operand): Value => emitBinary(subOp, x, y);
/** x * y, element by element, broadcast as in NumPy. */
export const mul = (x: Operand, y: Operand): Value => emitBinary(mulOp, x, y);
/** x / y, f32. */
export const div = (x: Operand, y: Operand): Value => emitBinary(divOp, x, y);
/** The larger of x and y, f32. */
export const maximum = (x: Operand, y: Operand): Value => emitBinary(maximumOp, x, y);
/** x < y as bool. */
export const less = (x: Operand, y: Operand): Value => emitBinary(lessOp, x, y);
/** x = y as bool, i32 only. */
export const equal = (x: Operand, y: Operand): Value => emitBinary(equalOp, x, y);

/** Where `condition` (bool) holds x, elsewhere y; the three broadcast together. */
export function select(condition: Value, x: Operand, y: Operand): Value {
  const dtype = typeof x !== 'number' ? x.dtype : typeof y !== 'number' ? y.dtype : 'f32';
  const operands = [x, y].map((operand) => scalar(operand, condition, dtype));
  return condition.graph.emit(selectOp, [condition, ...operands], {});
}

function emitBinary(definition: OpDefinition, x: Operand, y: Operand): Value {
  const known = typeof x !== 'number' ? x : y;
  if (typeof known === 'number') {
    throw new DetailFlowError('invalid-argument', `${definition.name}: at least one operand must be a value`);
  }
  return known.graph.emit(definition, [scalar(x, known, known.dtype), scalar(y, known, known.dtype)], {});
}

function scalar(operand: Operand, beside: Value, dtype: DType): Value {
  if (typeof operand !== 'number') return operand;
  if (dtype === 'i32' && !Number.isInteger(operand)) {
    throw new DetailFlowError('dtype', `the number ${operand} beside an i32 value must be whole`);
  }
  const data = dtype === 'i32' ? Int32Array.of(operand) : Float64Array.of(operand);
  return beside.graph.constant(data, [], dtype);
}

/** x, through which no gradient flows. */
export const stopGradient = (x: Value): Value => x.graph.emit(stopGradientOp, [x], {});

/** The value of `hard`; the gradient goes to `soft`, of the same shape, as if it had been `soft`. */
export const straightThrough = (hard: Value, soft: Value): Value =>
  hard.graph.emit(straightThroughOp, [hard, soft], {});
