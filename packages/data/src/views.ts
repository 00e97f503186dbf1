import { checkOptions, DetailFlowError, describe, RandomStream } from '@detailflow/core';
import { centerCrop, checkImage, crop } from './center-crop';
import { checkSize } from './pillow-resize';
import { Purpose } from './purpose';
import { cutImage, flipImage, padImage, type RgbImage } from './rgb-image';

/** How an image of any shape becomes a square one. Source: docs/method.md section 5. */
export interface ViewOptions {
  /** Side of the square in pixels. */
  readonly size: number;
  /** `crop` resizes and cuts a square out; `pad` lays images on a black square, small ones as they are, larger ones shrunk. */
  readonly fit: 'crop' | 'pad';
  /**
   * For training, `crop` only: the shorter side is drawn from size .. ceil(size / zoom), and the square is anywhere;
   * 0.8 in the official recipe, 1 for always the largest square.
   */
  readonly zoom: number;
  /** For training: mirrored as often as not. */
  readonly flip: boolean;
}

/** What a model is shown for evaluation: the middle of the image. */
export function centerView(image: RgbImage, { size, fit }: Pick<ViewOptions, 'size' | 'fit'>): RgbImage {
  return fit === 'pad' ? padImage(image, size) : centerCrop(image, size);
}

/**
 * What a model is shown in training.
 * @param options.seed, position which draw: the same one gives the same view
 */
export function trainingView(
  image: RgbImage,
  options: ViewOptions & { readonly seed: number; readonly position: number },
): RgbImage {
  checkOptions('trainingView', options, {
    size: true,
    fit: true,
    zoom: true,
    flip: true,
    seed: true,
    position: true,
  });
  const { size, fit, zoom, flip, seed, position } = options;
  checkSize(size);
  checkImage(image);
  if (!(zoom > 0 && zoom <= 1)) {
    throw new DetailFlowError(
      'invalid-argument',
      `zoom is ${describe(zoom)}; give a number above 0, at most 1`,
    );
  }
  const random = new RandomStream({ seed, purpose: Purpose.crop, position });
  const isMirrored = flip && random.uniform() < 0.5;
  const view = () => {
    if (fit === 'pad') return padImage(image, size);
    const side = size + random.integer(Math.ceil(size / zoom) - size + 1);
    return crop(image, { side, size, place: (spare) => random.integer(spare + 1) });
  };
  return isMirrored ? flipImage(view()) : view();
}

/** How many views of every image are encoded. */
export type CodeViews = 'center' | 'ten-crop';

/**
 * The views of which codes are made: the middle alone; or of the square of int(1.1 size) pixels in the middle the top
 * left, top right, bottom left, bottom right and middle square, and the same of the mirror image.
 */
export function codeViews(
  image: RgbImage,
  options: Pick<ViewOptions, 'size' | 'fit'> & { readonly views: CodeViews },
): RgbImage[] {
  checkOptions('codeViews', options, { size: true, fit: true, views: true });
  const { size, fit, views } = options;
  if (views === 'center') return [centerView(image, options)];
  const larger = Math.trunc(1.1 * size);
  const spare = larger - size;
  const middle = Math.round(spare / 2);
  const square = centerView(image, { size: larger, fit });
  return [square, flipImage(square)].flatMap((one) =>
    [
      [0, 0],
      [spare, 0],
      [0, spare],
      [spare, spare],
      [middle, middle],
    ].map(([left, top]) => cutImage(one, left, top, size)),
  );
}
