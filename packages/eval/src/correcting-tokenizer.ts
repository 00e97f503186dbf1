import {
  checkOptions,
  DetailFlowError,
  type ImageTokenizer,
  type LatentTokenizer,
  type Tensor,
} from '@detailflow/core';
import type { MixtureTokenizer, Tokenizer } from '@detailflow/tokenizer';

/** A tokenizer of any family; DetailFlow's can also disturb codes and correct them. */
export type CorrectingTokenizer = ImageTokenizer &
  Partial<Pick<Tokenizer, 'encodeCorrected' | 'resolutions'>>;

/** Codes with noise from a token on, corrected. @throws DetailFlowError `unsupported` where the tokenizer cannot do that */
async function correctedCodes(
  tokenizer: CorrectingTokenizer,
  images: Tensor<'float32'>,
  options: { readonly noiseIndex: number; readonly seed: number; readonly signal?: AbortSignal },
): Promise<Tensor<'int32'>> {
  if (tokenizer.encodeCorrected) return (await tokenizer.encodeCorrected(images, options)).input;
  throw new DetailFlowError('unsupported', 'only tokenizers of DetailFlow correct codes with noise');
}

/** A tokenizer of codes, or one of continuous latents; DetailFlow's latents have an order, as its codes. */
export type RestoringTokenizer = CorrectingTokenizer | LatentTokenizer | MixtureTokenizer;

/** How images are to be restored. */
interface RestoreOptions {
  readonly tokens: number;
  readonly noiseIndex: number | null;
  /** Side of the pictures. */
  readonly size: number;
  /** Of the noise. */
  readonly seed: number;
}

/** Images as a tokenizer keeps them, to be decoded in some ways. */
export interface KeptImages {
  /** Missing where the tokenizer has latents and no codes. */
  readonly codes?: Tensor<'int32'>;
  /** Draws the images again: float32 [B, 3, size, size]. */
  restore(options: RestoreOptions): Promise<Tensor<'float32'>>;
}

/** Encodes images float32 [B, 3, S, S] once, for all ways of restoring them. */
export async function keptImages(
  tokenizer: RestoringTokenizer,
  images: Tensor<'float32'>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<KeptImages> {
  checkOptions('keptImages', options, { signal: true });
  const { signal } = options;
  if ('encode' in tokenizer) {
    const codes = await tokenizer.encode(images, { signal });
    return {
      codes,
      async restore({ tokens, noiseIndex, size, seed }) {
        const chosen =
          noiseIndex === null ? codes : await correctedCodes(tokenizer, images, { noiseIndex, seed, signal });
        return tokenizer.decode(chosen, { tokens, size, signal });
      },
    };
  }
  const latents = await tokenizer.encodeLatents(images, { signal });
  return {
    async restore({ tokens, noiseIndex, size }) {
      if ('resolutions' in tokenizer && noiseIndex === null) {
        return tokenizer.decodeLatents(latents, { tokens, size, signal });
      }
      if (tokens !== tokenizer.tokens || noiseIndex !== null) {
        throw new DetailFlowError(
          'invalid-argument',
          `latents have no order and are not disturbed: a picture needs all ${tokenizer.tokens} of them, not ${tokens}`,
        );
      }
      return tokenizer.decodeLatents(latents, { signal });
    },
  };
}
