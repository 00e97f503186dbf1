import { checkOptions, DetailFlowError } from '@detailflow/core';
import { requireImageRange } from './image-range';

const WINDOW = 7;

/** Size of the images of {@link ssim}, and the range that it assumes. */
export interface SsimOptions {
  /** Of both images [C, H, W]. */
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /**
   * What the constants are scaled by. Default 2, as the official script passes it although its images span 1: figures
   * of the paper and its kind. 1 gives the customary SSIM, that of 8-bit images with a range of 255.
   */
  readonly dataRange?: number;
}

/**
 * Structural similarity of two images as the official script measures it: the images are taken to [0, 1]; uniform
 * windows of 7 x 7 pixels that lie wholly inside, sample covariances, mean over windows and channels.
 * `restored`, `original`: [C, H, W] in [-1, 1]; for the official figure the restored one has been through 8 bits
 * @throws DetailFlowError `shape` when the sizes differ, or a side is below 7; `invalid-argument` for a range of 0 or less,
 *   a restored value that is not finite, or an original one not in [-1, 1]
 * Source: docs/method.md section 6; docs/metrics.md; scikit-image's structural_similarity.
 */
export function ssim(restored: ArrayLike<number>, original: ArrayLike<number>, options: SsimOptions): number {
  checkOptions('ssim', options, { channels: true, height: true, width: true, dataRange: true });
  const { channels, height, width, dataRange = 2 } = options;
  if (!(dataRange > 0)) {
    throw new DetailFlowError('invalid-argument', `dataRange is ${dataRange}; give a number above 0`);
  }
  const size = channels * height * width;
  if (restored.length !== size || original.length !== size || Math.min(height, width) < WINDOW) {
    throw new DetailFlowError(
      'shape',
      `${restored.length} and ${original.length} values, expected [${channels}, ${height}, ${width}] with sides of ${WINDOW} or more`,
    );
  }
  requireImageRange(original);
  const plane = height * width;
  const toUnit = (values: ArrayLike<number>, channel: number) =>
    Float64Array.from({ length: plane }, (_, i) => (values[channel * plane + i] + 1) / 2);
  let total = 0;
  for (let channel = 0; channel < channels; channel++) {
    total += similarity(toUnit(restored, channel), toUnit(original, channel), { height, width, dataRange });
  }
  if (!Number.isFinite(total)) {
    throw new DetailFlowError('invalid-argument', 'a restored value is not finite');
  }
  return total / channels;
}

/** Mean over all windows of two planes [height, width]. */
function similarity(
  a: Float64Array,
  b: Float64Array,
  { height, width, dataRange }: { height: number; width: number; dataRange: number },
): number {
  const count = WINDOW ** 2;
  const [c1, c2] = [(0.01 * dataRange) ** 2, (0.03 * dataRange) ** 2];
  const correction = count / (count - 1);
  const product = (p: Float64Array, q: Float64Array) => p.map((value, i) => value * q[i]);
  const [x, y, xx, yy, xy] = [a, b, product(a, a), product(b, b), product(a, b)].map((values) =>
    windowMeans(values, height, width),
  );
  let sum = 0;
  for (let i = 0; i < x.length; i++) {
    const varianceX = correction * (xx[i] - x[i] * x[i]);
    const varianceY = correction * (yy[i] - y[i] * y[i]);
    const covariance = correction * (xy[i] - x[i] * y[i]);
    sum +=
      ((2 * x[i] * y[i] + c1) * (2 * covariance + c2)) /
      ((x[i] * x[i] + y[i] * y[i] + c1) * (varianceX + varianceY + c2));
  }
  return sum / x.length;
}

/** Means over all windows that lie inside: [height - 6, width - 6]. */
function windowMeans(values: Float64Array, height: number, width: number): Float64Array {
  const [rows, columns] = [height - WINDOW + 1, width - WINDOW + 1];
  const across = new Float64Array(height * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      let sum = 0;
      for (let k = 0; k < WINDOW; k++) sum += values[y * width + x + k];
      across[y * columns + x] = sum;
    }
  }
  const out = new Float64Array(rows * columns);
  for (let at = 0; at < out.length; at++) {
    let sum = 0;
    for (let k = 0; k < WINDOW; k++) sum += across[at + k * columns];
    out[at] = sum / WINDOW ** 2;
  }
  return out;
}
