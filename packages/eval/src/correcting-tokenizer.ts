import { DetailFlowError, type ImageTokenizer, type Tensor } from '@detailflow/core';
import type { Tokenizer } from '@detailflow/tokenizer';

/** A tokenizer of any family; DetailFlow's can also disturb codes and correct them. */
export type CorrectingTokenizer = ImageTokenizer &
  Partial<Pick<Tokenizer, 'encodeCorrected' | 'resolutions'>>;

/** Codes with noise from a token on, corrected. @throws DetailFlowError `unsupported` where the tokenizer cannot do that */
export async function correctedCodes(
  tokenizer: CorrectingTokenizer,
  images: Tensor<'float32'>,
  options: { readonly noiseIndex: number; readonly seed: number; readonly signal?: AbortSignal },
): Promise<Tensor<'int32'>> {
  if (tokenizer.encodeCorrected) return (await tokenizer.encodeCorrected(images, options)).input;
  throw new DetailFlowError('unsupported', 'only tokenizers of DetailFlow correct codes with noise');
}
