import { DetailFlowError, type Tensor, type TokenModel } from '@detailflow/core';

export interface GivenOptions {
  /** int32 [B, k]: first tokens to continue from. */
  readonly prefix?: Tensor;
  /** Tokens that stay, anywhere: codes int32 [B, N] at the places marked by `mask` bool [N]. */
  readonly keep?: { readonly codes: Tensor; readonly mask: Tensor };
}

/** Tokens that are not drawn. */
export interface GivenTokens {
  /** Whether a place is given, of every image. */
  has(place: number): boolean;
  at(image: number, place: number): number | undefined;
}

/**
 * @param total tokens there will be
 * @throws DetailFlowError `invalid-argument` for another shape, and for codes that the model does not have
 */
export function givenTokens(
  { prefix, keep }: GivenOptions,
  model: Pick<TokenModel, 'tokens' | 'vocabularySize'>,
  images: number,
  total: number,
): GivenTokens {
  if (prefix && keep) {
    throw new DetailFlowError('invalid-argument', 'prefix and keep are both given; give one of them');
  }
  if (prefix) {
    const count = prefix.dims[1];
    checkCodes('prefix', prefix, model, images, (width) => width <= total, `up to ${total}`);
    const codes = prefix.data as Int32Array;
    const has = (place: number) => place < count;
    return { has, at: (image, place) => (has(place) ? codes[image * count + place] : undefined) };
  }
  if (keep) {
    const { codes, mask } = keep;
    const width = model.tokens;
    checkCodes('keep.codes', codes, model, images, (n) => n === width, `${width}`);
    if (mask.type !== 'bool' || mask.dims.join() !== `${width}`) {
      throw new DetailFlowError(
        'invalid-argument',
        `keep.mask is ${mask.type} [${mask.dims}]; give bool [${width}]`,
      );
    }
    const has = (place: number) => mask.data[place] === 1;
    const at = (image: number, place: number) =>
      has(place) ? (codes.data as Int32Array)[image * width + place] : undefined;
    return { has, at };
  }
  return { has: () => false, at: () => undefined };
}

function checkCodes(
  name: string,
  tensor: Tensor,
  { vocabularySize }: Pick<TokenModel, 'vocabularySize'>,
  images: number,
  fits: (width: number) => boolean,
  width: string,
): void {
  const [batch, count] = tensor.dims;
  const isShaped = tensor.type === 'int32' && tensor.dims.length === 2 && batch === images && fits(count);
  if (isShaped && (tensor.data as Int32Array).every((code) => code >= 0 && code < vocabularySize)) return;
  throw new DetailFlowError(
    'invalid-argument',
    `${name} is ${tensor.type} [${tensor.dims}]; give int32 [${images}, ${width}] of codes 0..${vocabularySize - 1}`,
  );
}
