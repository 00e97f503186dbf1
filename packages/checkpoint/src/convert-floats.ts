import { DetailFlowError, readFloat32, type StorageDType, storageBytes, type Weight } from '@detailflow/core';
import { float16Bits } from '@detailflow/core/rounded-weight';

/** Storage of float weights. Integers and booleans always stay as they are. */
export type FloatStorage = 'f32' | 'f16';

/** What a weight is stored as when floats are kept as `floats`. */
export function storedDType(dtype: StorageDType, floats: FloatStorage): StorageDType {
  return dtype === 'f64' || dtype === 'f32' || dtype === 'f16' || dtype === 'bf16' ? floats : dtype;
}

const maxChunk = 4 * 2 ** 20;

/**
 * Reads a weight and yields its bytes in chunks of at most 4 MB, converted to `storedDType(weight.dtype, floats)`,
 * rounding to nearest, ties to even (f64 to f16 by way of f32).
 * @throws DetailFlowError `weights` when the bytes do not fit the shape, or a finite value has no finite counterpart
 */
export async function* convertedChunks(weight: Weight, floats: FloatStorage): AsyncGenerator<Uint8Array> {
  const target = storedDType(weight.dtype, floats);
  const bytes = await weight.read();
  const width = storageBytes[weight.dtype];
  const count = weight.shape.reduce((a, b) => a * b, 1);
  if (bytes.length !== count * width) {
    throw new DetailFlowError(
      'weights',
      `reading it gave ${bytes.length} bytes, but ${weight.dtype} [${weight.shape.join(', ')}] takes ${count * width}`,
      { entry: weight.name },
    );
  }
  for (let at = 0; at < bytes.length; at += maxChunk) {
    const chunk = bytes.subarray(at, at + maxChunk);
    yield target === weight.dtype ? chunk : await convert(weight, chunk, target as FloatStorage);
  }
}

async function convert(weight: Weight, bytes: Uint8Array, target: FloatStorage): Promise<Uint8Array> {
  const { name, dtype } = weight;
  const shape = [bytes.length / storageBytes[dtype]];
  const values = await readFloat32({ name, dtype, shape, read: async () => bytes });
  if (dtype === 'f64') refuseOverflow(weight, values, bytes);
  if (target === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    halves[i] = float16Bits(values[i]);
    if ((halves[i] & 0x7fff) === 0x7c00 && Number.isFinite(values[i]))
      throw overflow(weight, values[i], 'f16');
  }
  return new Uint8Array(halves.buffer);
}

function refuseOverflow(weight: Weight, narrowed: Float32Array, bytes: Uint8Array): void {
  const wide = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < narrowed.length; i++) {
    const value = wide.getFloat64(8 * i, true);
    if (Number.isFinite(value) && !Number.isFinite(narrowed[i])) throw overflow(weight, value, 'f32');
  }
}

function overflow(weight: Weight, value: number, dtype: FloatStorage): DetailFlowError {
  const advice = dtype === 'f16' ? '; store this model as f32' : '';
  return new DetailFlowError('weights', `the value ${value} does not fit ${dtype}${advice}`, {
    entry: weight.name,
  });
}
