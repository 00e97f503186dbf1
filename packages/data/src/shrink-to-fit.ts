import { bicubic, resizeAxis, taps } from './pillow-resize';
import type { RgbImage } from './rgb-image';

/** An image that is larger than a square, shrunk until it fits into it, as Pillow's bicubic `resize` does; others as they are. */
export function shrunkToFit(image: RgbImage, side: number): RgbImage {
  const { data, width, height } = image;
  const longer = Math.max(width, height);
  if (longer <= side) return image;
  const [w, h] = [width, height].map((extent) => Math.max(1, Math.round((extent * side) / longer)));
  const rows = resizeAxis(data, height, 3, width, taps(bicubic, width, w, 0, w));
  return { data: resizeAxis(rows, 1, 3 * w, height, taps(bicubic, height, h, 0, h)), width: w, height: h };
}
