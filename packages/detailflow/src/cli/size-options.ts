import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, type Tensor } from '@detailflow/core';
import { resizedBicubic } from '@detailflow/eval';
import { createResolutionMap, resolutionSettings, tokensOfSize } from '@detailflow/tokenizer';
import { isDetailFlow } from '../detailflow-family';
import { type Options, UsageError } from './command';
import type { Values } from './values';

const LARGEST_SIDE = 65536;

/** For commands that encode pictures. */
export const imageSizeOption: Options = {
  size: {
    type: 'string',
    value: 'PX',
    help: "side of the pictures, one of the tokenizer's (default: its largest): fewer pixels, fewer tokens",
  },
};

/** For commands that draw pictures. */
export const pictureSizeOptions: Options = {
  size: {
    type: 'string',
    value: 'PX',
    help: 'side at which all tokens are decoded (default: what they are worth)',
  },
  'eval-size': { type: 'string', value: 'PX', help: 'resize the pictures to this side (bicubic)' },
};

/** Side and tokens of the images that `--size` asks for, or of full ones. */
export interface EncodedSize {
  readonly size: number;
  readonly tokens: number;
}

/**
 * What `--size` of {@link imageSizeOption} says.
 * @throws UsageError when the tokenizer knows no such size: names the nearest; DetailFlowError `unsupported` where images are not square
 */
export function encodedSize(values: Values, opened: FamilyModel): EncodedSize {
  requireSquare(opened, 'pictures to encode are cut square');
  const { imageSize, tokens } = opened.tokenizer;
  const size = values.whole('size', { least: 1, most: LARGEST_SIDE });
  if (size === undefined || size === imageSize) return { size: imageSize, tokens };
  if (!isDetailFlow(opened) || opened.tokenizer.config.mixture) {
    throw new UsageError(`--size ${size}: this tokenizer encodes pictures of ${imageSize} pixels only`);
  }
  try {
    const map = createResolutionMap(resolutionSettings(opened.tokenizer.config));
    return { size, tokens: tokensOfSize(map, size) };
  } catch (error) {
    throw DetailFlowError.isInstance(error) ? new UsageError(`--size: ${error.message}`) : error;
  }
}

/** How drawn pictures are decoded and shown. */
export interface PictureSize {
  /** At which all tokens are decoded; what they are worth if omitted. */
  readonly size?: number;
  /** To which that is then resized. */
  readonly evalSize?: number;
}

/**
 * What {@link pictureSizeOptions} say.
 * @throws UsageError for what is no multiple of the patch; DetailFlowError `unsupported` for an evaluation size of pictures that
 * are not square
 */
export function pictureSize(values: Values, opened: FamilyModel): PictureSize {
  const size = values.whole('size', { least: 1, most: LARGEST_SIDE });
  const evalSize = values.whole('eval-size', { least: 1, most: LARGEST_SIDE });
  if (evalSize !== undefined) requireSquare(opened, '--eval-size makes squares');
  if (size !== undefined) {
    if (!isDetailFlow(opened))
      throw new UsageError('--size: only pictures of DetailFlow have a size of choice');
    const { patchSize } = opened.tokenizer.config.decoder;
    if (size % patchSize !== 0) {
      throw new UsageError(`--size ${size}: give a multiple of the patch size ${patchSize}`);
    }
  }
  return { size, evalSize };
}

/**
 * For what knows squares alone.
 * @param why what that is, in words
 * @throws DetailFlowError `unsupported` where pictures of the model are not square
 */
export function requireSquare({ pictureSize, pictureWidth, tokenizer }: FamilyModel, why: string): void {
  if (pictureWidth === undefined || pictureWidth === pictureSize) return;
  throw new DetailFlowError(
    'unsupported',
    `${why}, and pictures of this model are ${pictureSize} pixels high and ${pictureWidth} wide; give --scales that end with a square`,
    { file: tokenizer.file },
  );
}

/** The longer side of the pictures as they are written, in pixels. */
export const longestSide = ({ pictureSize, pictureWidth = 0 }: FamilyModel): number =>
  Math.max(pictureSize, pictureWidth);

/** Pictures as `--eval-size` wants them. */
export const resizedForEvaluation = (
  pixels: Tensor<'float32'>,
  side: number | undefined,
): Tensor<'float32'> => (side === undefined ? pixels : resizedBicubic(pixels, side));
