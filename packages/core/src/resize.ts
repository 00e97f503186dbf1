import { formatShape } from './dim';
import { DetailFlowError } from './errors';

/**
 * How samples are weighed when one axis is resized. All use half-pixel centres (align_corners = false).
 * - `area`: the mean of every source sample that an output sample touches (adaptive average pooling).
 * - `bicubic`: four taps, a = -0.75, borders repeated, no antialiasing, whichever way the size changes.
 * - `bilinear-antialias`: a triangle as wide as the shrinking factor; plain bilinear when growing.
 */
export type ResizeKind = 'area' | 'bicubic' | 'bilinear-antialias';

/**
 * The matrix [to, from], row-major, that resizes one axis: out = matrix * in. Rows sum to 1; computed in
 * float64. The results are those of torch.nn.functional.interpolate with mode 'area', 'bicubic', and
 * 'bilinear' with antialias=True.
 * @throws DetailFlowError 'invalid-argument' unless `from` and `to` are integers >= 1
 */
export function resizeMatrix(kind: ResizeKind, from: number, to: number): Float32Array {
  for (const size of [from, to]) {
    if (!Number.isInteger(size) || size < 1) {
      throw new DetailFlowError(
        'invalid-argument',
        `cannot resize ${from} to ${to}: sizes are integers >= 1`,
      );
    }
  }
  const matrix = new Float32Array(to * from);
  for (let row = 0; row < to; row++) {
    matrix.set(rowWeights[kind](row, from, to), row * from);
  }
  return matrix;
}

/**
 * The way in which degradation training resizes an axis: area when it shrinks, bicubic when it grows.
 * Source: docs/method.md section 5.
 */
export function degradationResize(from: number, to: number): ResizeKind {
  return to < from ? 'area' : 'bicubic';
}

/**
 * Resizes images [B, C, H, W] to [B, C, to.height, to.width]. Values are not clamped (bicubic overshoots).
 * @param kind `degradation` chooses for each axis by {@link degradationResize}
 * @throws DetailFlowError 'shape' when data and dims disagree, 'invalid-argument' for impossible sizes
 */
export function resizeImages(
  images: Float32Array,
  dims: readonly number[],
  to: { readonly height: number; readonly width: number },
  kind: ResizeKind | 'degradation',
): Float32Array {
  const [batch, channels, height, width] = dims;
  if (dims.length !== 4 || batch * channels * height * width !== images.length) {
    throw new DetailFlowError(
      'shape',
      `${images.length} values do not make images [B, C, H, W] = ${formatShape(dims)}`,
    );
  }
  const weights = (from: number, size: number) =>
    bands(resizeMatrix(kind === 'degradation' ? degradationResize(from, size) : kind, from, size), from);
  const planes = batch * channels;
  const narrowed = resizeAxis(images, planes * height, 1, weights(width, to.width)); // [B, C, H, w]
  return resizeAxis(narrowed, planes, to.width, weights(height, to.height)); // [B, C, h, w]
}

/** The rows of a resize matrix, each with the stretch outside which it is zero. */
interface Bands {
  readonly matrix: Float32Array;
  readonly from: number;
  /** Of every row: the first column that counts and the one after the last. */
  readonly ranges: readonly (readonly [number, number])[];
}

function bands(matrix: Float32Array, from: number): Bands {
  const ranges: [number, number][] = [];
  for (let at = 0; at < matrix.length; at += from) {
    const row = matrix.subarray(at, at + from);
    ranges.push([row.findIndex((x) => x !== 0), row.findLastIndex((x) => x !== 0) + 1]);
  }
  return { matrix, from, ranges };
}

/** [outer, from, inner] -> [outer, to, inner], summed in float64. */
function resizeAxis(source: Float32Array, outer: number, inner: number, { matrix, from, ranges }: Bands) {
  const to = ranges.length;
  const out = new Float32Array(outer * to * inner);
  for (let o = 0; o < outer; o++) {
    for (let row = 0; row < to; row++) {
      const [start, end] = ranges[row];
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        for (let k = start; k < end; k++) sum += matrix[row * from + k] * source[(o * from + k) * inner + i];
        out[(o * to + row) * inner + i] = sum;
      }
    }
  }
  return out;
}

const rowWeights: Record<ResizeKind, (row: number, from: number, to: number) => Float64Array> = {
  area(row, from, to) {
    const start = Math.floor((row * from) / to);
    const end = Math.ceil(((row + 1) * from) / to);
    return new Float64Array(from).fill(1 / (end - start), start, end);
  },

  bicubic(row, from, to) {
    const weights = new Float64Array(from);
    const centre = ((row + 0.5) * from) / to - 0.5;
    const left = Math.floor(centre);
    for (let tap = left - 1; tap <= left + 2; tap++) {
      weights[Math.min(from - 1, Math.max(0, tap))] += cubic(Math.abs(tap - centre));
    }
    return weights;
  },

  'bilinear-antialias'(row, from, to) {
    const weights = new Float64Array(from);
    const support = Math.max(1, from / to);
    const centre = ((row + 0.5) * from) / to;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    let total = 0;
    for (let i = start; i < end; i++) {
      weights[i] = Math.max(0, 1 - Math.abs(i + 0.5 - centre) / support);
      total += weights[i];
    }
    return weights.map((weight) => weight / total);
  },
};

/** Keys' cubic convolution kernel with a = -0.75, for distances 0 .. 2. */
function cubic(x: number): number {
  const a = -0.75;
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((x - 5) * x + 8) * a * x - 4 * a;
}
