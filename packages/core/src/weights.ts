import { checkOptions } from './check-options';
import { describe } from './describe';
import { formatShape } from './dim';
import { DetailFlowError } from './errors';
import type { Float8Format } from './float8-values';
import { float16Values } from './float16-values';

/**
 * How a weight lies in storage: all that safetensors knows. Graphs compute in f32; the others are widened when loaded,
 * but for complex numbers and those of 4 and 6 bits, of which only the bytes can be read.
 */
export type StorageDType =
  | 'f64'
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'i64'
  | 'i32'
  | 'i16'
  | 'i8'
  | 'u64'
  | 'u32'
  | 'u16'
  | 'u8'
  | 'bool'
  | 'c64'
  | 'f6_e2m3'
  | 'f6_e3m2'
  | 'f4'
  | Float8Format;

/** Bytes of one element; several elements of 4 or 6 bits share a byte. */
export const storageBytes: Readonly<Record<StorageDType, number>> = {
  f64: 8,
  f32: 4,
  f16: 2,
  bf16: 2,
  i64: 8,
  i32: 4,
  i16: 2,
  i8: 1,
  u64: 8,
  u32: 4,
  u16: 2,
  u8: 1,
  bool: 1,
  c64: 8,
  f8_e4m3: 1,
  f8_e5m2: 1,
  f8_e8m0: 1,
  f8_e4m3fnuz: 1,
  f8_e5m2fnuz: 1,
  f6_e2m3: 0.75,
  f6_e3m2: 0.75,
  f4: 0.5,
};

/** Where a weight's bytes lie in a local file: contiguous, row-major, little-endian. */
export interface WeightLocation {
  /** Absolute path. */
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/** One named tensor of a checkpoint, not read yet. */
export interface Weight {
  readonly name: string;
  readonly dtype: StorageDType;
  readonly shape: readonly number[];
  /** Set when the bytes can be mapped as they lie on disk. */
  readonly location?: WeightLocation;
  /** Set where it is a matrix stored in few bits; it then reads as float32. */
  readonly rounded?: RoundedMatrix;
  /** The stored bytes, row-major, little-endian, contiguous: product(shape) * storageBytes[dtype] of them. */
  read(): Promise<Uint8Array>;
}

/**
 * A matrix [out, in] in few bits. In blocks along its rows a weight is its scale times (level - 2^(bits - 1)); with one scale a row, its
 * scale times its level.
 */
export interface RoundedMatrix {
  readonly bits: 4 | 8;
  /**
   * Weights of one scale: 16, 32, 64 or 128, where the last block of a row may hold more levels than there are weights; or 'row', of 8 bits.
   */
  readonly block: number | 'row';
  /** Levels, u8 [out, blocks, block * bits / 8]: one a byte, or two, the first of them in the lower half; i8 [in, out] by rows. */
  readonly values: Weight;
  /** f32 [out, blocks], or [out] by rows. */
  readonly scales: Weight;
}

/** Named weights, in the order of the checkpoint. Names are those of the official state dict. */
export type Weights = ReadonlyMap<string, Weight>;

/** What a model expects of a weight; `parameters(config)` of each model lists them. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A weight held in memory as float32. @throws DetailFlowError `invalid-argument` when data and shape do not fit */
export function weightFromArray(name: string, shape: readonly number[], data: Float32Array): Weight {
  const size = Array.isArray(shape) ? shape.reduce((a, b) => a * b, 1) : undefined;
  if (!(data instanceof Float32Array) || data.length !== size) {
    throw new DetailFlowError(
      'invalid-argument',
      `a weight of shape ${describe(shape)} from ${describe(data)}; give the shape, then a Float32Array that fills it`,
      { entry: name },
    );
  }
  return {
    name,
    dtype: 'f32',
    shape,
    read: async () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
  };
}

/**
 * Reads a weight and widens it to float32; integers and booleans become numbers, too.
 * @throws DetailFlowError `dtype` for complex numbers and those of 4 and 6 bits; `weights` when bytes and shape differ
 */
export async function readFloat32(weight: Weight): Promise<Float32Array> {
  const bytes = await weight.read();
  const count = weight.shape.reduce((a, b) => a * b, 1);
  if (bytes.byteLength !== count * storageBytes[weight.dtype]) {
    throw new DetailFlowError(
      'weights',
      `${bytes.byteLength} bytes do not make ${weight.dtype} ${formatShape(weight.shape)}`,
      { entry: weight.name },
    );
  }
  return widen(bytes, weight, count);
}

async function widen(bytes: Uint8Array, { dtype, name }: Weight, count: number): Promise<Float32Array> {
  if (dtype === 'f32' && bytes.byteOffset % 4 === 0) {
    return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(count);
  switch (dtype) {
    case 'f32':
      for (let i = 0; i < count; i++) out[i] = view.getFloat32(4 * i, true);
      return out;
    case 'f64':
      for (let i = 0; i < count; i++) out[i] = view.getFloat64(8 * i, true);
      return out;
    case 'f16':
      return float16Values(bytes);
    case 'bf16': {
      const bits = new Uint32Array(out.buffer);
      for (let i = 0; i < count; i++) bits[i] = view.getUint16(2 * i, true) << 16;
      return out;
    }
    case 'i64':
      for (let i = 0; i < count; i++) out[i] = Number(view.getBigInt64(8 * i, true));
      return out;
    case 'i32':
      for (let i = 0; i < count; i++) out[i] = view.getInt32(4 * i, true);
      return out;
    case 'i16':
      for (let i = 0; i < count; i++) out[i] = view.getInt16(2 * i, true);
      return out;
    case 'i8':
      for (let i = 0; i < count; i++) out[i] = view.getInt8(i);
      return out;
    case 'u64':
      for (let i = 0; i < count; i++) out[i] = Number(view.getBigUint64(8 * i, true));
      return out;
    case 'u32':
      for (let i = 0; i < count; i++) out[i] = view.getUint32(4 * i, true);
      return out;
    case 'u16':
      for (let i = 0; i < count; i++) out[i] = view.getUint16(2 * i, true);
      return out;
    case 'u8':
    case 'bool':
      out.set(bytes);
      return out;
    case 'c64':
    case 'f4':
    case 'f6_e2m3':
    case 'f6_e3m2':
      throw new DetailFlowError('dtype', `is stored as ${dtype}, of which only the bytes can be read`, {
        entry: name,
      });
    default: {
      const { float8Values } = await import('./float8-values'); // rare: loaded where it is met
      const values = float8Values(dtype);
      for (let i = 0; i < count; i++) out[i] = values[bytes[i]];
      return out;
    }
  }
}

/**
 * Checks weights against what a model needs. Names the missing, the superfluous and the misshapen ones.
 * `ignore` lists names or prefixes (ending in '.') that a checkpoint may hold besides.
 * @throws DetailFlowError `weights`
 */
export function validateWeights(
  weights: Weights,
  specs: readonly ParameterSpec[],
  options: { file?: string; ignore?: readonly string[] } = {},
): void {
  checkOptions('validateWeights', options, { file: true, ignore: true });
  const known = new Set(specs.map((spec) => spec.name));
  const ignored = (name: string) =>
    (options.ignore ?? []).some((rule) => (rule.endsWith('.') ? name.startsWith(rule) : name === rule));
  const missing = specs.filter((spec) => !weights.has(spec.name)).map((spec) => spec.name);
  const extra = [...weights.keys()].filter((name) => !known.has(name) && !ignored(name));
  const misshapen: string[] = [];
  for (const spec of specs) {
    const found = weights.get(spec.name);
    if (found && found.shape.join() !== spec.shape.join()) {
      misshapen.push(`${spec.name} is ${formatShape(found.shape)}, must be ${formatShape(spec.shape)}`);
    }
  }
  if (missing.length + extra.length + misshapen.length === 0) return;
  const parts = [
    listing('missing', missing),
    listing('not part of this model', extra),
    listing('misshapen', misshapen),
  ].filter((part) => part !== '');
  throw new DetailFlowError('weights', `the weights do not fit the configuration: ${parts.join('; ')}`, {
    file: options.file,
  });
}

function listing(title: string, items: readonly string[]): string {
  if (items.length === 0) return '';
  const shown = items.slice(0, 20).join(', ');
  return `${items.length} ${title} (${shown}${items.length > 20 ? ', ...' : ''})`;
}
