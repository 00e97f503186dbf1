import { checkOptions, DetailFlowError, describe, RandomStream } from '@detailflow/core';
import { type Augmentation, augmentImage } from './augment';
import { centerCrop, checkImage, crop } from './center-crop';
import { black } from './colour';
import type { Colour } from './contact-sheet';
import { checkSize } from './pillow-resize';
import { Purpose } from './purpose';
import { cutImage, flipImage, padImage, type RgbImage } from './rgb-image';

/** How an image of any shape becomes a square one. Source: docs/method.md section 5. */
export interface ViewOptions {
  /** Side of the square in pixels. */
  readonly size: number;
  /** `crop` resizes and cuts a square out; `pad` lays images on a square, small ones as they are, larger ones shrunk. */
  readonly fit: 'crop' | 'pad';
  /** The colour of that square, and of what comes in when an image is moved; default black. */
  readonly background?: Colour;
  /**
   * For training, `crop` only: the shorter side is drawn from size .. ceil(size / zoom), and the square is anywhere;
   * 0.8 in the official recipe, 1 for always the largest square.
   */
  readonly zoom: number;
  /** For training: mirrored as often as not. */
  readonly flip: boolean;
  /** For training: further changes at random. */
  readonly augment?: Augmentation;
}

/** What decides the view of an evaluation. */
export type CenterViewOptions = Pick<ViewOptions, 'size' | 'fit' | 'background'>;

/** What a model is shown for evaluation: the middle of the image. */
export function centerView(image: RgbImage, { size, fit, background }: CenterViewOptions): RgbImage {
  return fit === 'pad' ? padImage(image, size, background) : centerCrop(image, size);
}

/**
 * What a model is shown in training.
 * `options.seed` and `position` say which draw: the same one gives the same view.
 */
export function trainingView(
  image: RgbImage,
  options: ViewOptions & { readonly seed: number; readonly position: number },
): RgbImage {
  checkOptions('trainingView', options, {
    ...{ size: true, fit: true, background: true, zoom: true, flip: true, augment: true },
    ...{ seed: true, position: true },
  });
  const { size, fit, background = black, zoom, flip, augment, seed, position } = options;
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
    if (fit === 'pad') return padImage(image, size, background);
    const side = size + random.integer(Math.ceil(size / zoom) - size + 1);
    return crop(image, { side, size, place: (spare) => random.integer(spare + 1) });
  };
  const found = isMirrored ? flipImage(view()) : view();
  return augment ? augmentImage(found, augment, { seed, position, background }) : found;
}

/** Which views of every image are encoded. */
export type CodeViews = 'center' | 'center+mirror' | 'ten-crop' | 'varied';

/** Of `ten-crop`: the square that views are cut from, as a multiple of their side. */
const CROP_RANGES: readonly number[] = [1.1];

/** How many views there are of an image. */
export const codeViewCount = (views: CodeViews, cropRanges = CROP_RANGES): number =>
  ({ center: 1, 'center+mirror': 2, 'ten-crop': 10 * cropRanges.length, varied: 10 })[views];

/**
 * The views of which codes are made: the middle alone, or with its mirror image; or of the square of int(1.1 size) pixels in the middle the top
 * left, top right, bottom left, bottom right and middle square, and the same of the mirror image; or the middle and nine
 * views as training draws them.
 * @param options.cropRanges of `ten-crop`: others than 1.1; ten views for each
 * @param options.training how those are drawn; needed for `varied`
 */
export function codeViews(
  image: RgbImage,
  options: CenterViewOptions & {
    readonly views: CodeViews;
    readonly cropRanges?: readonly number[];
    readonly training?: Pick<ViewOptions, 'zoom' | 'flip' | 'augment'> & {
      readonly seed: number;
      /** Of the image: its views take ten places of their own. */
      readonly position: number;
    };
  },
): RgbImage[] {
  checkOptions('codeViews', options, {
    ...{ size: true, fit: true, background: true, views: true, training: true, cropRanges: true },
  });
  const { size, fit, background, views, training, cropRanges = CROP_RANGES } = options;
  if (views === 'center' || views === 'center+mirror') {
    const middle = centerView(image, { size, fit, background });
    return views === 'center' ? [middle] : [middle, flipImage(middle)];
  }
  const count = codeViewCount(views);
  if (views === 'varied') {
    if (!training) throw new DetailFlowError('invalid-argument', 'varied views need options.training');
    const { position, ...how } = training;
    const drawn = (view: number) =>
      trainingView(image, { ...how, size, fit, background, position: position * count + view });
    return [centerView(image, options), ...Array.from({ length: count - 1 }, (_, i) => drawn(i + 1))];
  }
  return cropRanges.flatMap((range) => {
    const larger = Math.trunc(range * size);
    const spare = larger - size;
    const middle = Math.round(spare / 2);
    const square = centerView(image, { size: larger, fit, background });
    return [square, flipImage(square)].flatMap((one) =>
      [
        [0, 0],
        [spare, 0],
        [0, spare],
        [spare, spare],
        [middle, middle],
      ].map(([left, top]) => cutImage(one, left, top, size)),
    );
  });
}
