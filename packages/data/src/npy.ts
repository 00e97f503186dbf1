import { DetailFlowError, float16Values } from '@detailflow/core';
import { dtypes, type NpyDType } from './npy-dtype';
import { type NpyHeader, npyHeader, readNpyHeader } from './npy-header';

/**
 * An array of a .npy file; `data` is in C order (last axis fastest) and matches `dtype`: float16 is widened to float32, bool
 * is bytes.
 */
export type NpyArray = {
  [D in NpyDType]: {
    readonly dtype: D;
    readonly shape: number[];
    readonly data: InstanceType<(typeof dtypes)[D]['array']>;
  };
}[NpyDType];

/**
 * Reads a .npy file, format versions 1.0 to 3.0, of booleans, integers of 8 to 64 bits or floats of 16 to 64, in either
 * byte order. Fortran order is turned into C order. The data is a copy.
 * Source: NumPy's numpy.lib.format.
 * @param details.file names the file in errors
 * @throws DetailFlowError 'format' for a file that breaks the format or whose size is not what its header says,
 *   'dtype' for other data types (objects are never unpickled), 'limit' for a header beyond 64 KiB or more than 32 axes
 */
export function readNpy(bytes: Uint8Array, details: { file?: string } = {}): NpyArray {
  const header = readNpyHeader(bytes, bytes.length, details);
  return npyArray(header, header.shape, bytes.subarray(header.end));
}

/** The array of some bytes, which are copied. */
export function npyArray(
  { dtype, fortranOrder, isBigEndian }: Pick<NpyHeader, 'dtype' | 'fortranOrder' | 'isBigEndian'>,
  shape: readonly number[],
  bytes: Uint8Array,
): NpyArray {
  const { bytes: width, array } = dtypes[dtype];
  const copy = new Uint8Array(bytes);
  if (isBigEndian) turnBytes(copy, width);
  const stored = dtype === 'float16' ? float16Values(copy) : new array(copy.buffer);
  const data = fortranOrder ? toCOrder(stored, shape) : stored;
  return { dtype, shape: [...shape], data } as NpyArray;
}

function turnBytes(bytes: Uint8Array, width: number): void {
  for (let at = 0; at < bytes.length; at += width) bytes.subarray(at, at + width).reverse();
}

/**
 * A .npy file, format version 1.0, C order, its dtype chosen by the kind of `data`.
 * @throws DetailFlowError 'shape' when shape and data disagree, 'limit' for more than 32 axes
 */
export function writeNpy(array: NpyContents): Uint8Array {
  const { data, shape } = array;
  const dtype = (['float32', 'float64', 'int32', 'int64', 'uint8'] as const).find(
    (name) => data instanceof dtypes[name].array,
  );
  if (!dtype)
    throw new DetailFlowError(
      'dtype',
      'the data are no Float32Array, Float64Array, Int32Array, BigInt64Array or Uint8Array',
    );
  const header = npyHeader(dtype, shape);
  if (shape.reduce((product, extent) => product * extent, 1) !== data.length) {
    throw new DetailFlowError('shape', `${data.length} values do not make an array [${shape.join(', ')}]`);
  }
  const bytes = new Uint8Array(header.length + data.byteLength);
  bytes.set(header);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), header.length);
  return bytes;
}

/** What {@link writeNpy} takes. */
export interface NpyContents {
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;
  readonly shape: readonly number[];
}

function toCOrder(source: NpyArray['data'], shape: readonly number[]): NpyArray['data'] {
  const out = source.slice();
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((a, b) => a * b, 1));
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = source[from];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}
