import { DetailFlowError, Picture } from '@detailflow/core';
import { black } from './colour';
import type { Colour } from './contact-sheet';
import { shrunkToFit } from './shrink-to-fit';

/** An RGB image of 8 bits a channel. */
export interface RgbImage {
  /** [height, width, 3]. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Shades of grey as RGB: every byte three times. */
export function greyToRgb(grey: Uint8Array): Uint8Array {
  const data = new Uint8Array(3 * grey.length);
  for (let i = 0; i < grey.length; i++) data.fill(grey[i], 3 * i, 3 * i + 3);
  return data;
}

/** Bytes as values in [-1, 1]: byte / 127.5 - 1. */
const byteValues = Float32Array.from({ length: 256 }, (_, byte) => byte / 127.5 - 1);

/**
 * An image as [3, side, side] in [-1, 1].
 * @throws DetailFlowError `shape` when it is not side x side pixels
 */
export function imageValues(
  image: RgbImage,
  side: number,
  out = new Float32Array(3 * side * side),
): Float32Array {
  if (image.width !== side || image.height !== side) {
    throw new DetailFlowError(
      'shape',
      `the image has ${image.width} x ${image.height} pixels, ${side} x ${side} are expected`,
    );
  }
  const plane = side * side;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) out[c * plane + i] = byteValues[image.data[3 * i + c]];
  }
  return out;
}

/**
 * An image in the middle of a square, shrunk until it fits when it is larger.
 * @param background the colour around it; default black
 */
export function padImage(image: RgbImage, side: number, background: Colour = black): RgbImage {
  if (image.width === side && image.height === side) return image;
  const { data: pixels, width, height } = shrunkToFit(image, side);
  const data = new Uint8Array(3 * side * side);
  if (background.some((value) => value !== 0)) {
    for (let at = 0; at < data.length; at += 3) data.set(background, at);
  }
  const [left, top] = [Math.floor((side - width) / 2), Math.floor((side - height) / 2)];
  for (let y = 0; y < height; y++) {
    data.set(pixels.subarray(3 * y * width, 3 * (y + 1) * width), 3 * ((top + y) * side + left));
  }
  return { data, width: side, height: side };
}

/** The mirror image. */
export function flipImage({ data, width, height }: RgbImage): RgbImage {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 3 * (y * width + width - 1 - x);
      out.set(data.subarray(from, from + 3), 3 * (y * width + x));
    }
  }
  return { data: out, width, height };
}

/** A square of `size` pixels from the left and top given. */
export function cutImage(image: RgbImage, left: number, top: number, size: number): RgbImage {
  const data = new Uint8Array(3 * size * size);
  for (let y = 0; y < size; y++) {
    const from = 3 * ((top + y) * image.width + left);
    data.set(image.data.subarray(from, from + 3 * size), 3 * y * size);
  }
  return { data, width: size, height: size };
}

/** One image of a batch of bytes [count, height, width, 3]. */
export function pictureFromBytes(
  { data, width, height }: { readonly data: Uint8Array; readonly width: number; readonly height: number },
  index = 0,
): Picture {
  const plane = width * height;
  const rgba = new Uint8ClampedArray(4 * plane).fill(255);
  for (let at = 0; at < plane; at++) {
    for (let c = 0; c < 3; c++) rgba[4 * at + c] = data[3 * (index * plane + at) + c];
  }
  return new Picture(rgba, width, height);
}
