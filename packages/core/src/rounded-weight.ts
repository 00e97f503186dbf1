import type { WeightDType } from './backend';
import { describe } from './describe';
import { formatShape } from './dim';
import { DetailFlowError } from './errors';
import type { RoundedMatrix, Weight, Weights } from './weights';

export { float16Bits } from './float16-bits';

const dtypes: readonly WeightDType[] = ['fp32', 'fp16', 'q8', 'q4'];

/** Weights of one scale that a rounded matrix may have. */
const BLOCKS = [16, 32, 64, 128];

/**
 * A matrix [out, in] that is stored in few bits. Read as a weight it is widened to float32; a backend that holds few bits takes
 * the levels and scales as they are.
 * @param file where it comes from, for messages
 * @throws DetailFlowError `format` when bits or block are none that can be, `weights` when the parts do not fit the shape;
 *   when its scales are read, `weights` for one that is no finite number
 */
export function roundedWeight(
  name: string,
  shape: readonly number[],
  matrix: RoundedMatrix,
  file?: string,
): Weight {
  const { bits, block, values, scales } = matrix;
  const fail = (code: 'format' | 'weights', reason: string) =>
    new DetailFlowError(code, reason, { file, entry: name });
  const how = block === 'row' ? 'row by row' : `in blocks of ${block}`;
  const isKnown = block === 'row' ? bits === 8 : (bits === 8 || bits === 4) && BLOCKS.includes(block);
  if (!isKnown) {
    throw fail(
      'format',
      `is rounded to ${bits} bits ${how}; known are blocks of ${BLOCKS.join(', ')} with 8 and 4, rows with 8`,
    );
  }
  if (shape.length !== 2 || shape.some((extent) => !Number.isSafeInteger(extent) || extent < 1)) {
    throw fail('format', `is ${formatShape(shape)}; only matrices are rounded`);
  }
  const [out, columns] = shape;
  const parts = roundedParts(matrix, shape);
  for (const [part, { dtype, shape: must }] of [
    [values, parts.values],
    [scales, parts.scales],
  ] as const) {
    if (part.dtype !== dtype || part.shape.join() !== must.join()) {
      throw new DetailFlowError(
        'weights',
        `is ${part.dtype} ${formatShape(part.shape)}, must be ${dtype} ${formatShape(must)} ` +
          `for ${formatShape(shape)} in ${bits} bits ${how}`,
        { file, entry: part.name },
      );
    }
  }
  const checked: Weight = {
    ...scales,
    async read() {
      const bytes = await scales.read();
      const bad = floatsOf(bytes).findIndex((scale) => !Number.isFinite(scale));
      if (bad < 0) return bytes;
      throw new DetailFlowError('weights', `scale ${bad} is no finite number; the file is damaged`, {
        file,
        entry: scales.name,
      });
    },
  };
  return {
    name,
    shape,
    dtype: 'f32',
    rounded: { bits, block, values, scales: checked },
    async read() {
      const [levels, factors] = [await values.read(), floatsOf(await checked.read())];
      const weights =
        block === 'row'
          ? widenedRows(levels, factors, { out, columns })
          : widened(levels, factors, { out, columns, bits, block });
      return new Uint8Array(weights.buffer);
    },
  };
}

/** What the tensors of a rounded matrix [out, in] are. */
export function roundedParts(
  { bits, block }: Pick<RoundedMatrix, 'bits' | 'block'>,
  [out, columns]: readonly number[],
): Record<'values' | 'scales', Pick<Weight, 'dtype' | 'shape'>> {
  if (block === 'row') {
    return { values: { dtype: 'i8', shape: [columns, out] }, scales: { dtype: 'f32', shape: [out] } };
  }
  const blocks = Math.ceil(columns / block);
  return {
    values: { dtype: 'u8', shape: [out, blocks, (block * bits) / 8] },
    scales: { dtype: 'f32', shape: [out, blocks] },
  };
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

function widened(
  values: Uint8Array,
  scales: Float32Array,
  { out, columns, bits, block }: { out: number; columns: number; bits: 4 | 8; block: number },
): Float32Array {
  const weights = new Float32Array(out * columns);
  const blocks = Math.ceil(columns / block);
  const zero = 2 ** (bits - 1);
  for (let row = 0, to = 0; row < out; row++) {
    for (let column = 0; column < columns; column++, to++) {
      const scale = scales[row * blocks + Math.floor(column / block)];
      const at = row * blocks * block + column;
      const level = bits === 8 ? values[at] : (values[at >> 1] >> (4 * (at & 1))) & 15;
      weights[to] = scale * (level - zero);
    }
  }
  return weights;
}

function widenedRows(
  values: Uint8Array,
  scales: Float32Array,
  { out, columns }: { out: number; columns: number },
): Float32Array {
  const levels = new Int8Array(values.buffer, values.byteOffset, values.byteLength);
  const weights = new Float32Array(out * columns);
  for (let row = 0, to = 0; row < out; row++) {
    for (let at = row; at < levels.length; at += out, to++) weights[to] = scales[row] * levels[at];
  }
  return weights;
}

/** How the matrices among weights are stored: 'q4' where any has 4 bits, undefined where none is rounded. */
export function storedQuantisation(weights: Weights): 'q8' | 'q4' | undefined {
  const bits = new Set([...weights.values()].map(({ rounded }) => rounded?.bits));
  return bits.has(4) ? 'q4' : bits.has(8) ? 'q8' : undefined;
}

/**
 * How matrices are to be held: as they are stored where they are rounded already, else as is wanted.
 * @returns undefined where they are taken as they are
 * @throws DetailFlowError `dtype` when they are stored in few bits and something else is wanted, `invalid-argument` for no dtype at all
 */
export function agreedDType(
  weights: Weights,
  wanted: WeightDType | undefined,
  file?: string,
): WeightDType | undefined {
  if (wanted !== undefined && !dtypes.includes(wanted)) {
    throw new DetailFlowError(
      'invalid-argument',
      `the dtype is ${describe(wanted)}; give ${dtypes.join(', ')}, or leave it out`,
      { file },
    );
  }
  const stored = storedQuantisation(weights);
  if (stored === undefined) return wanted;
  if (wanted === undefined || wanted === stored) return undefined;
  throw new DetailFlowError(
    'dtype',
    `its matrices are stored as ${stored}, and ${wanted} is asked for: rounding cannot be undone; leave the dtype out, or ` +
      'take the model that this was converted from',
    { file },
  );
}
