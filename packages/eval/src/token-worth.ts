import { type ImageTokenizer, resizeImages, Tensor } from '@detailflow/core';
import type { Tokenizer } from '@detailflow/tokenizer';

/** At which size the first tokens of an image are decoded, and what they should restore there. */
export interface TokenWorth {
  /** Side of the decoded image in pixels. */
  readonly size: number;
  /** The image is shrunk to this side, and then brought to `size`. */
  readonly targetSize: number;
}

/**
 * What so many tokens are worth: in training DetailFlow's are never asked for more, those of other families always for all.
 * Source: docs/method.md section 2.
 */
export function tokenWorth(
  { resolutions, tokens: all }: Pick<ImageTokenizer, 'tokens'> & Partial<Pick<Tokenizer, 'resolutions'>>,
  tokens: number,
  full: number,
): TokenWorth {
  if (tokens === all || !resolutions) return { size: full, targetSize: full };
  return { size: resolutions.tokenToDecOutRes(tokens), targetSize: resolutions.tokenToRes(tokens) };
}

/**
 * The images that so many tokens should restore, resized as in training: by area when shrinking, bicubic when growing;
 * within [-1, 1].
 * @param images [B, 3, S, S]
 * @returns [B, 3, size, size]
 * Source: docs/method.md section 5.
 */
export function worthTarget(images: Tensor<'float32'>, { size, targetSize }: TokenWorth): Tensor<'float32'> {
  const [batch, channels, full] = images.dims;
  if (size === full && targetSize === full) return images;
  const square = (side: number) => ({ height: side, width: side });
  const shrunk = resizeImages(images.data, images.dims, square(targetSize), 'area');
  const brought = [batch, channels, targetSize, targetSize];
  const data = resizeImages(shrunk, brought, square(size), 'degradation');
  return new Tensor('float32', clamped(data), [batch, channels, size, size]);
}

/** Within [-1, 1], in place: bicubic enlargement overshoots what a picture can show. */
export function clamped(pixels: Float32Array): Float32Array {
  for (const [i, value] of pixels.entries()) pixels[i] = Math.min(1, Math.max(-1, value));
  return pixels;
}
