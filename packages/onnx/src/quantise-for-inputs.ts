import { DetailFlowError } from '@detailflow/core';
import type { InputMoments } from './input-moments';
import { packed, type QuantisedMatrix, type QuantiseOptions, quantise } from './quantise';

/** What is added to the diagonal of moments, as a share of its mean, so that they can be inverted. */
const DAMPING = 0.01;

/**
 * Rounds a matrix so that products with inputs like those measured keep near: column after column, and what the rounding of one
 * takes away, the columns after it give back as far as inputs go together. Source: Frantar et al., "GPTQ" (2022), section 3, within windows
 * of columns.
 * @param moments of all columns, window after window
 * @throws DetailFlowError `weights` where a weight or a moment is no finite number
 */
export function quantiseForInputs(
  weights: Float32Array,
  matrix: QuantiseOptions,
  moments: readonly InputMoments[],
): QuantisedMatrix {
  const { name, bits, block, out, in: columns } = matrix;
  if (block === 'row') {
    const nearest = quantise(weights, matrix);
    if (nearest.block === 'row') return rowsForInputs(weights, nearest, name, moments);
    return quantiseForInputs(weights, { ...matrix, block: nearest.block }, moments);
  }
  const blocks = Math.ceil(columns / block);
  const [zero, top] = [2 ** (bits - 1), 2 ** bits - 1];
  const levels = new Uint8Array(out * blocks * block).fill(zero);
  const scales = new Float32Array(out * blocks);
  for (const { first, count, sums } of moments) {
    const factor = inverseFactor(sums, count);
    const rest = new Float64Array(count);
    for (let row = 0; row < out; row++) {
      for (let i = 0; i < count; i++) rest[i] = weights[row * columns + first + i];
      let [scale, inverse] = [0, 0];
      for (let i = 0; i < count; i++) {
        const at = row * blocks * block + first + i;
        if (i % block === 0) {
          scale = Math.fround(scaleOf(rest, i, Math.min(count, i + block), bits));
          if (!Number.isFinite(scale)) {
            throw new DetailFlowError('weights', 'a weight or an input is no finite number', { entry: name });
          }
          inverse = scale === 0 ? 0 : 1 / scale;
          scales[at / block] = scale;
        }
        const level = Math.max(0, Math.min(top, Math.floor(rest[i] * inverse + 0.5) + zero));
        levels[at] = level;
        const lost = (rest[i] - scale * (level - zero)) / factor[i * count + i];
        for (let j = i + 1; j < count; j++) rest[j] -= lost * factor[i * count + j];
      }
    }
  }
  return { bits, block, out, in: columns, values: bits === 8 ? levels : packed(levels), scales };
}

/** Other levels with the scales of the nearest ones. */
function rowsForInputs(
  weights: Float32Array,
  nearest: QuantisedMatrix,
  name: string,
  moments: readonly InputMoments[],
): QuantisedMatrix {
  const { out, in: columns } = nearest;
  const levels = new Int8Array(columns * out);
  for (const { first, count, sums } of moments) {
    const factor = inverseFactor(sums, count);
    const rest = new Float64Array(count);
    for (let row = 0; row < out; row++) {
      for (let i = 0; i < count; i++) rest[i] = weights[row * columns + first + i];
      const scale = nearest.scales[row];
      const inverse = scale === 0 ? 0 : 1 / scale;
      for (let i = 0; i < count; i++) {
        if (!Number.isFinite(rest[i])) {
          throw new DetailFlowError('weights', 'an input is no finite number', { entry: name });
        }
        const level = Math.max(-127, Math.min(127, Math.floor(rest[i] * inverse + 0.5)));
        levels[(first + i) * out + row] = level;
        const lost = (rest[i] - scale * level) / factor[i * count + i];
        for (let j = i + 1; j < count; j++) rest[j] -= lost * factor[i * count + j];
      }
    }
  }
  return { ...nearest, values: levels };
}

/** As `quantise` chooses it; NaN where a weight is. */
function scaleOf(rest: Float64Array, first: number, end: number, bits: 4 | 8): number {
  let extreme = 0;
  for (let i = first; i < end; i++) {
    if (!(Math.abs(rest[i]) <= Math.abs(extreme))) extreme = rest[i];
  }
  return bits === 8 ? Math.abs(extreme) / 127 : extreme / -8;
}

/** The upper triangle U with U^T U the inverse of the damped moments, [count, count]. */
function inverseFactor(sums: Float64Array, count: number): Float64Array {
  let trace = 0;
  for (let i = 0; i < count; i++) trace += sums[i * count + i];
  const damping = (DAMPING * trace) / count || 1; // inputs that are all 0 say nothing
  // The moments as R R^T with R upper triangular, from the last column on; U is the inverse of R.
  const r = new Float64Array(count * count);
  for (let j = count - 1; j >= 0; j--) {
    for (let i = j; i >= 0; i--) {
      let rest = sums[i * count + j] + (i === j ? damping : 0);
      for (let k = j + 1; k < count; k++) rest -= r[i * count + k] * r[j * count + k];
      r[i * count + j] = i === j ? Math.sqrt(rest) : rest / r[j * count + j];
    }
  }
  const u = new Float64Array(count * count);
  for (let j = 0; j < count; j++) {
    u[j * count + j] = 1 / r[j * count + j];
    for (let i = j - 1; i >= 0; i--) {
      let sum = 0;
      for (let k = i + 1; k <= j; k++) sum += r[i * count + k] * u[k * count + j];
      u[i * count + j] = -sum / r[i * count + i];
    }
  }
  return u;
}
