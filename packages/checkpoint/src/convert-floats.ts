import { DetailFlowError, readFloat32, type StorageDType, storageBytes, type Weight } from '@detailflow/core';

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

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** IEEE 754 half-precision bits of a float32 value, rounded to nearest, ties to even. */
export function float16Bits(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
    return sign | ((rounded - 0x38000000) >>> 13);
  }
  // Below 2^-14 halves are multiples of 2^-24, which is the spacing of float32 in [0.5, 1): adding 0.5 rounds to them.
  scratch[0] = Math.abs(scratch[0]) + 0.5;
  return sign | (scratchBits[0] - 0x3f000000);
}
