import { Picture, pictureFromPixels, type Tensor } from '@detailflow/core';

/**
 * One image of a batch [B, 3, H, W] in [-1, 1] as VAR's demo writes it: trunc(255 (x + 1) / 2), so half a step darker than
 * `pictureFromPixels`, which rounds as FlexVAR does.
 */
export function varPicture(pixels: Tensor<'float32'>, index = 0): Picture {
  const { data, width, height } = pictureFromPixels(pixels, index);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) data[4 * i + c] = varByte(pixels.data[(3 * index + c) * plane + i]);
  }
  return new Picture(data, width, height);
}

/** A value in [-1, 1] as a byte: cut, in float32 as officially. */
export function varByte(value: number): number {
  const unit = Math.fround(Math.fround(Math.min(1, Math.max(-1, value)) + 1) * 0.5);
  return Math.trunc(Math.fround(255 * unit));
}
