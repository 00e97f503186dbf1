import {
  Tensor as RuntimeTensor,
  type Tensor as RuntimeTensorType,
  type TypedTensor,
} from 'onnxruntime-common';
import { checkOptions } from './check-options';
import { describe } from './describe';
import { DetailFlowError } from './errors';

/** Element types of tensors that models take and give. */
export type TensorType = 'float32' | 'int32' | 'bool';

/** Typed arrays by element type; bool is held as bytes. */
export type TensorData<T extends TensorType = TensorType> = RuntimeTensorType.DataTypeMap[T];

/**
 * A tensor of `onnxruntime-common`, by element type: `Tensor<'float32'>` has a `Float32Array` as `data`. Without a
 * parameter it is one of the three, and `type` tells which.
 */
export type Tensor<T extends TensorType = TensorType> = T extends TensorType ? TypedTensor<T> : never;

interface TensorConstructor {
  /**
   * @param data row-major, one number for each element; typed arrays are not copied
   * @param dims extents; one axis if omitted
   * @throws DetailFlowError `dtype` for another type, `shape` when data and dims do not fit, `invalid-argument` else
   */
  new <T extends TensorType>(
    type: T,
    data: TensorData<T> | readonly (T extends 'bool' ? boolean : number)[],
    dims?: readonly number[],
  ): Tensor<T>;
  readonly prototype: Tensor;
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

function makeTensor(type: TensorType, data: unknown, dims?: unknown): RuntimeTensorType {
  if (typeof type !== 'string' || !Object.hasOwn(arrays, type)) {
    throw new DetailFlowError(
      'dtype',
      `new Tensor: the type is ${describe(type)}; give 'float32', 'int32' or 'bool', then data and dims`,
    );
  }
  if (!(data instanceof arrays[type] || Array.isArray(data))) {
    throw new DetailFlowError(
      'invalid-argument',
      `new Tensor: the data of a ${type} tensor are ${describe(data)}; give a ${arrays[type].name} or a list`,
    );
  }
  const shape = dims ?? [data.length];
  const isShape =
    Array.isArray(shape) && shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0);
  if (!isShape) {
    throw new DetailFlowError(
      'shape',
      `new Tensor: dims are ${describe(shape)}; give a list of whole numbers, after the data`,
    );
  }
  const size = shape.reduce((a: number, b: number) => a * b, 1);
  if (size !== data.length) {
    throw new DetailFlowError(
      'shape',
      `new Tensor: ${data.length} values do not fill dims ${describe(shape)}; give the data first, then the dims`,
    );
  }
  return new RuntimeTensor(type, data as Float32Array, shape);
}
makeTensor.prototype = RuntimeTensor.prototype; // every tensor of the runtime is an instance

/** Makes a tensor; the class is that of `onnxruntime-common`. */
export const Tensor: TensorConstructor = makeTensor as unknown as TensorConstructor;

/** Whether a value is a tensor, of this or another copy of the runtime, whose data fill its dims. */
export function isTensor(value: unknown): value is Tensor {
  if (typeof value !== 'object' || value === null) return false;
  try {
    const { type, dims, data } = value as Tensor;
    return (
      Object.hasOwn(arrays, type) &&
      Array.isArray(dims) &&
      data instanceof arrays[type] &&
      data.length === dims.reduce((a, b) => a * b, 1)
    );
  } catch {
    return false; // a tensor of the runtime that was disposed of refuses to give its data
  }
}

/**
 * A tensor that was given as an argument, known to be of a type and number of axes.
 * @param options.what names the argument; `must` says what to give
 * @throws DetailFlowError `invalid-argument` for what is no tensor and for values that are not finite, `shape` for another one
 */
export function requireTensor<T extends TensorType>(
  value: unknown,
  options: { readonly what: string; readonly must: string; readonly type: T; readonly axes?: number },
): Tensor<T> {
  checkOptions('requireTensor', options, { what: true, must: true, type: true, axes: true });
  const { what, must, type, axes } = options;
  const { dims } = (value ?? {}) as { dims?: unknown };
  if (!Array.isArray(dims)) {
    throw new DetailFlowError('invalid-argument', `${what} are ${describe(value)}; give a tensor, ${must}`);
  }
  if (!isTensor(value) || value.type !== type || (axes !== undefined && value.dims.length !== axes)) {
    throw new DetailFlowError('shape', `${what} are ${describe(value)}; give ${must}`);
  }
  if (!value.data.every(Number.isFinite)) {
    throw new DetailFlowError('invalid-argument', `${what} hold numbers that are not finite`);
  }
  return value as Tensor<T>;
}

/** An output of a graph, known to be of a type. @throws DetailFlowError `dtype` for another one */
export function ofType<T extends TensorType>(tensor: Tensor, type: T): Tensor<T> {
  if (tensor.type === type) return tensor as Tensor<T>;
  throw new DetailFlowError('dtype', `the tensor is ${describe(tensor)}; ${type} is expected`);
}
