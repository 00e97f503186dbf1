import { readFileSync } from 'node:fs';
import { expect } from 'vitest';

/** One reference array; BF16 comes widened to float32. */
export interface GoldenTensor {
  readonly dtype: 'F32' | 'BF16' | 'I32' | 'U8';
  readonly shape: number[];
  readonly data: Float32Array | Int32Array | Uint8Array;
}

const folder = new URL('./fixtures/golden/', import.meta.url);

/** Every array of a golden .safetensors file by its name, `file` relative to tests/fixtures/golden. */
export function golden(file: string): Record<string, GoldenTensor> {
  const bytes = readFileSync(new URL(file, folder));
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(bytes.toString('utf8', 8, start));
  const tensors: Record<string, GoldenTensor> = {};
  for (const [name, { dtype, shape, data_offsets: at }] of Object.entries<SafetensorsEntry>(header)) {
    const raw = new Uint8Array(bytes.subarray(start + at[0], start + at[1])); // a copy, hence aligned
    tensors[name] = { dtype, shape, data: decode[dtype](raw) };
  }
  return tensors;
}

/** A golden .json file, `file` relative to tests/fixtures/golden. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows the shape of the part it reads.
export function goldenJson(file: string): any {
  return JSON.parse(readFileSync(new URL(file, folder), 'utf8'));
}

/** The data of a float array, for code that takes nothing else. */
export function floats(tensor: GoldenTensor): Float32Array {
  if (!(tensor.data instanceof Float32Array)) throw new Error(`expected floats, got ${tensor.dtype}`);
  return tensor.data;
}

/**
 * Asserts |x - ref| <= tolerance * max(1, max|ref|) element by element, and the same length. Infinities must
 * stand in the same places with the same sign; NaN never passes.
 */
export function expectClose(actual: ArrayLike<number>, reference: ArrayLike<number>, tolerance = 1e-4): void {
  expect(actual.length, 'length').toBe(reference.length);
  let scale = 1;
  for (let i = 0; i < reference.length; i++) {
    if (Number.isFinite(reference[i])) scale = Math.max(scale, Math.abs(reference[i]));
  }
  let worst = 0;
  let where = -1;
  for (let i = 0; i < reference.length; i++) {
    if (actual[i] === reference[i]) continue;
    const error = Math.abs(actual[i] - reference[i]);
    if (error <= worst) continue; // false for NaN too
    worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
    where = i;
  }
  const place = `largest difference at [${where}]: ${actual[where]} instead of ${reference[where]}`;
  expect(worst, place).toBeLessThanOrEqual(tolerance * scale);
}

interface SafetensorsEntry {
  dtype: GoldenTensor['dtype'];
  shape: number[];
  data_offsets: [number, number];
}

const decode: Record<GoldenTensor['dtype'], (raw: Uint8Array) => GoldenTensor['data']> = {
  F32: (raw) => new Float32Array(raw.buffer),
  I32: (raw) => new Int32Array(raw.buffer),
  U8: (raw) => raw,
  BF16: (raw) => new Float32Array(Uint32Array.from(new Uint16Array(raw.buffer), (half) => half << 16).buffer),
};
