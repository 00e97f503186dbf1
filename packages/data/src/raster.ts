import { DetailFlowError } from '@detailflow/core';
import type { Colour } from './contact-sheet';
import { greyToRgb, type RgbImage } from './rgb-image';

/** Pixels an image may have. */
const MOST_PIXELS = 1e8;

/** A decoded image, before anything is decided about its transparency. */
export interface Raster {
  /** [height, width, channels]: grey, grey and alpha, RGB, or RGBA. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 2 | 3 | 4;
}

/** @throws DetailFlowError `limit` beyond 100 million pixels, `format` without any */
export function checkPixels(width: number, height: number, file: string): void {
  if (!(width >= 1 && height >= 1)) {
    throw new DetailFlowError('format', `has ${width} x ${height} pixels`, { file });
  }
  if (width * height > MOST_PIXELS) {
    const size = `${width} x ${height}`;
    throw new DetailFlowError('limit', `has ${size} pixels; the limit is ${MOST_PIXELS}: shrink it first`, {
      file,
    });
  }
}

/**
 * An image as RGB.
 * @param background what transparent pixels are laid on, rounded to the nearest byte; default: alpha is dropped
 */
export function rasterToRgb({ data, width, height, channels }: Raster, background?: Colour): RgbImage {
  if (channels === 3) return { data, width, height };
  if (channels === 1) return { data: greyToRgb(data), width, height };
  const out = new Uint8Array(3 * width * height);
  const isGrey = channels === 2;
  for (let from = 0, to = 0; to < out.length; from += channels, to += 3) {
    const alpha = data[from + channels - 1];
    for (let c = 0; c < 3; c++) {
      const value = data[isGrey ? from : from + c];
      out[to + c] = background ? laid(value, alpha, background[c]) : value;
    }
  }
  return { data: out, width, height };
}

const laid = (value: number, alpha: number, below: number) =>
  Math.round((value * alpha + below * (255 - alpha)) / 255);

/**
 * An image turned and mirrored as an EXIF orientation (1 to 8) says; as it is for any other number.
 * Source: Exif 2.3, tag 274.
 */
export function turnedImage(image: RgbImage, orientation: number): RgbImage {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const { data, width: w, height: h } = image;
  const isSwapped = orientation >= 5;
  const [width, height] = isSwapped ? [h, w] : [w, h];
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBelow = [3, 4, 6, 7].includes(orientation);
  const out = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const [across, down] = isSwapped ? [y, x] : [x, y];
      const column = fromRight ? w - 1 - across : across;
      const row = fromBelow ? h - 1 - down : down;
      const from = 3 * (row * w + column);
      out[to] = data[from];
      out[to + 1] = data[from + 1];
      out[to + 2] = data[from + 2];
    }
  }
  return { data: out, width, height };
}

/** 16 bits of grey, and alpha where there is one. */
export interface DeepGrey {
  readonly data: Uint16Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 2;
}

/**
 * 16 bits of grey as 8.
 * @param cut as Pillow's convert('RGB') has it: everything above 255 is white; else the upper 8 bits stay
 */
export function shallowGrey({ data, ...shape }: DeepGrey, cut: boolean): Raster {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = cut ? Math.min(data[i], 255) : data[i] >> 8;
  return { data: out, ...shape };
}
