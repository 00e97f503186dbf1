import { DetailFlowError, RandomStream } from '@detailflow/core';
import type { Colour } from './contact-sheet';
import { Purpose } from './purpose';
import type { RgbImage } from './rgb-image';

/** How much images are changed at random in training; 0 or absent is not at all. */
export interface Augmentation {
  /** Moved by up to this share of the side, on both axes. */
  readonly shift?: number;
  /** Enlarged or shrunk by a factor up to 1 + scale. */
  readonly scale?: number;
  /** Turned by up to so many degrees. */
  readonly rotate?: number;
  /** Hue turned by up to so many degrees; greys stay. */
  readonly hue?: number;
  /** Saturation multiplied by 1 - saturation .. 1 + saturation; greys stay. */
  readonly saturation?: number;
  /** Contrast around white multiplied by 1 - brightness .. 1 + brightness: white stays. */
  readonly brightness?: number;
}

/** The largest value of every kind. */
export const augmentationLimits: Readonly<Record<keyof Augmentation, number>> = {
  ...{ shift: 0.25, scale: 0.5, rotate: 45, hue: 180, saturation: 1, brightness: 1 },
};

/**
 * Changes an image at random: moved, scaled and turned around its middle (bilinear; what comes in from outside has the
 * colour of the background), then its colours. The same seed and position give the same image.
 */
export function augmentImage(
  image: RgbImage,
  augmentation: Augmentation,
  at: { readonly seed: number; readonly position: number; readonly background: Colour },
): RgbImage {
  checkAugmentation(augmentation);
  const { shift = 0, scale = 0, rotate = 0, hue = 0, saturation = 0, brightness = 0 } = augmentation;
  const random = new RandomStream({ seed: at.seed, purpose: Purpose.augment, position: at.position });
  const [x, y, factor, angle, turn, vivid, light] = Array.from({ length: 7 }, () => 2 * random.uniform() - 1);
  let result = image;
  if (shift > 0 || scale > 0 || rotate > 0) {
    result = moved(result, {
      right: x * shift * image.width,
      down: y * shift * image.height,
      factor: (1 + scale) ** factor,
      radians: (angle * rotate * Math.PI) / 180,
      background: at.background,
    });
  }
  if (hue > 0 || saturation > 0 || brightness > 0) {
    result = coloured(result, {
      radians: (turn * hue * Math.PI) / 180,
      saturation: 1 + vivid * saturation,
      brightness: 1 + light * brightness,
    });
  }
  return result;
}

/** @throws DetailFlowError `invalid-argument` naming what is out of range */
function checkAugmentation(augmentation: Augmentation): void {
  for (const [name, most] of Object.entries(augmentationLimits)) {
    const value = augmentation[name as keyof Augmentation] ?? 0;
    if (!(value >= 0 && value <= most)) {
      throw new DetailFlowError(
        'invalid-argument',
        `augmentation.${name} is ${value}; give a number from 0 to ${most}`,
      );
    }
  }
}

function moved(
  { data, width, height }: RgbImage,
  motion: { right: number; down: number; factor: number; radians: number; background: Colour },
): RgbImage {
  const { right, down, factor, radians, background } = motion;
  const [cos, sin] = [Math.cos(radians) / factor, Math.sin(radians) / factor];
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [dx, dy] = [x - middleX - right, y - middleY - down];
      const sourceX = middleX + cos * dx + sin * dy;
      const sourceY = middleY - sin * dx + cos * dy;
      const [left, top] = [Math.floor(sourceX), Math.floor(sourceY)];
      const [a, b] = [sourceX - left, sourceY - top];
      for (let c = 0; c < 3; c++) {
        const value = (row: number, column: number) =>
          row >= 0 && row < height && column >= 0 && column < width
            ? data[3 * (row * width + column) + c]
            : background[c];
        const upper = value(top, left) * (1 - a) + value(top, left + 1) * a;
        const lower = value(top + 1, left) * (1 - a) + value(top + 1, left + 1) * a;
        out[3 * (y * width + x) + c] = Math.round(upper * (1 - b) + lower * b);
      }
    }
  }
  return { data: out, width, height };
}

/** Luma and two differences of colour (YIQ), in which hue is an angle and saturation a length. */
function coloured(
  { data, width, height }: RgbImage,
  change: { radians: number; saturation: number; brightness: number },
): RgbImage {
  const { radians, saturation, brightness } = change;
  const [cos, sin] = [saturation * Math.cos(radians), saturation * Math.sin(radians)];
  const out = new Uint8Array(data.length);
  const byte = (value: number) => Math.min(255, Math.max(0, Math.round(255 + brightness * (value - 255))));
  for (let at = 0; at < data.length; at += 3) {
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    const luma = 0.299 * r + 0.587 * g + 0.114 * b;
    const i = 0.595716 * r - 0.274453 * g - 0.321263 * b;
    const q = 0.211456 * r - 0.522591 * g + 0.311135 * b;
    const [turnedI, turnedQ] = [cos * i - sin * q, sin * i + cos * q];
    out[at] = byte(luma + 0.956296 * turnedI + 0.621024 * turnedQ);
    out[at + 1] = byte(luma - 0.272122 * turnedI - 0.647381 * turnedQ);
    out[at + 2] = byte(luma - 1.106989 * turnedI + 1.704615 * turnedQ);
  }
  return { data: out, width, height };
}
