import type { ImageTokenizer } from '@detailflow/core';

/** How large a picture is, in pixels. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** As requests and answers of the API write it: width first. */
export const sizeText = ({ width, height }: PictureSize): string => `${width}x${height}`;

/** At what size the first `tokens` tokens are drawn. */
export function sizeOfTokens(tokenizer: ImageTokenizer, tokens: number): PictureSize {
  const height = tokenizer.resolution(tokens);
  return { width: tokenizer.width?.(tokens) ?? height, height };
}
