import { checkOptions, DetailFlowError } from '@detailflow/core';

const WINDOW = 7;

/**
 * Structural similarity of two images: uniform windows of 7 x 7 pixels that lie wholly inside, sample covariances,
 * data range 2, mean over windows and channels.
 * @param options.channels, height, width of both images [C, H, W], in [-1, 1]
 * @throws DetailFlowError `shape` when the sizes differ, or a side is below 7
 * Source: docs/method.md section 6; scikit-image's structural_similarity.
 */
export function ssim(
  restored: ArrayLike<number>,
  original: ArrayLike<number>,
  options: { readonly channels: number; readonly height: number; readonly width: number },
): number {
  checkOptions('ssim', options, { channels: true, height: true, width: true });
  const { channels, height, width } = options;
  const size = channels * height * width;
  if (restored.length !== size || original.length !== size || Math.min(height, width) < WINDOW) {
    throw new DetailFlowError(
      'shape',
      `${restored.length} and ${original.length} values, expected [${channels}, ${height}, ${width}] with sides of ${WINDOW} or more`,
    );
  }
  const count = WINDOW ** 2;
  const [c1, c2] = [(0.01 * 2) ** 2, (0.03 * 2) ** 2];
  const correction = count / (count - 1);
  let total = 0;
  for (let channel = 0; channel < channels; channel++) {
    const at = channel * height * width;
    const mean = (f: (x: number, y: number) => number) =>
      windowMeans(height, width, (i) => f(restored[at + i], original[at + i]));
    const [x, y] = [mean((a) => a), mean((_, b) => b)];
    const [xx, yy, xy] = [mean((a) => a * a), mean((_, b) => b * b), mean((a, b) => a * b)];
    let sum = 0;
    for (let i = 0; i < x.length; i++) {
      const varianceX = correction * (xx[i] - x[i] * x[i]);
      const varianceY = correction * (yy[i] - y[i] * y[i]);
      const covariance = correction * (xy[i] - x[i] * y[i]);
      sum +=
        ((2 * x[i] * y[i] + c1) * (2 * covariance + c2)) /
        ((x[i] * x[i] + y[i] * y[i] + c1) * (varianceX + varianceY + c2));
    }
    total += sum / x.length;
  }
  return total / channels;
}

/** Means over all windows that lie inside. */
function windowMeans(height: number, width: number, value: (index: number) => number): Float64Array {
  const [rows, columns] = [height - WINDOW + 1, width - WINDOW + 1];
  const across = new Float64Array(height * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      for (let k = 0; k < WINDOW; k++) across[y * columns + x] += value(y * width + x + k);
    }
  }
  const out = new Float64Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let k = 0; k < WINDOW; k++) out[y * columns + x] += across[(y + k) * columns + x] / WINDOW ** 2;
    }
  }
  return out;
}
