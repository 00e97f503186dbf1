import { DetailFlowError } from '@detailflow/core';
import { bicubic, checkSize, halved, resizeAxis, roundHalfEven, taps } from './pillow-resize';
import type { RgbImage } from './rgb-image';

/**
 * The centre crop of ADM (guided-diffusion), to a square of `size` pixels: halved by a box filter while twice
 * too large, then bicubic to a shorter side of `size`, then the middle. Equals Pillow's `Image.resize` bit for
 * bit, its fixed-point rounding included. Only the pixels that stay are computed.
 * Source: docs/method.md section 5; Pillow's libImaging/Resample.c for the arithmetic.
 * @throws DetailFlowError 'shape' when data and sides disagree, 'invalid-argument' for a bad size
 */
export function centerCrop(image: RgbImage, size: number): RgbImage {
  checkSize(size);
  checkImage(image);
  return crop(image, { side: size, size, place: (spare) => Math.floor(spare / 2) });
}

/** Which square of an image becomes `size` x `size` pixels. */
export interface CropOptions {
  /** The image is shrunk, or enlarged, to a shorter side of so many pixels. */
  readonly side: number;
  /** Side of the square, at most `side`. */
  readonly size: number;
  /** Where the square begins, given how many pixels are left over on an axis: first columns, then rows. */
  readonly place: (spare: number) => number;
}

/** Halves by a box filter while twice too large, then resizes bicubically, and cuts a square out. */
export function crop(image: RgbImage, { side, size, place }: CropOptions): RgbImage {
  let { data, width, height } = halved(image, side);
  const scale = side / Math.min(width, height);
  const [w, h] = [roundHalfEven(width * scale), roundHalfEven(height * scale)];
  const [left, top] = [place(w - size), place(h - size)];
  data = resizeAxis(data, height, 3, width, taps(bicubic, width, w, left, size));
  data = resizeAxis(data, 1, 3 * size, height, taps(bicubic, height, h, top, size));
  return { data, width: size, height: size };
}

/** Throws `shape` unless the bytes make an image. */
export function checkImage({ data, width, height }: RgbImage): void {
  if (width > 0 && height > 0 && data.length === width * height * 3) return;
  throw new DetailFlowError('shape', `${data.length} bytes do not make a ${width} x ${height} RGB image`);
}
