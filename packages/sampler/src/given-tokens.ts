import {
  checkOptions,
  DetailFlowError,
  describe,
  isTensor,
  type Tensor,
  type TokenModel,
} from '@detailflow/core';

/** Tokens that stay as they are: the first ones, or any. */
export interface GivenOptions {
  /** int32 [B, k]: first tokens to continue from. */
  readonly prefix?: Tensor<'int32'>;
  /** Tokens that stay, anywhere: codes int32 [B, N] at the places marked by `mask` bool [N]. */
  readonly keep?: { readonly codes: Tensor<'int32'>; readonly mask: Tensor<'bool'> };
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
    checkCodes('prefix', prefix, model, images, (width) => width <= total, `up to ${total}`);
    const { data: codes, dims } = prefix;
    const [, count] = dims;
    const has = (place: number) => place < count;
    return { has, at: (image, place) => (has(place) ? codes[image * count + place] : undefined) };
  }
  if (keep) {
    checkOptions('keep', keep, { codes: true, mask: true });
    const { codes, mask } = keep;
    const width = model.tokens;
    checkCodes('keep.codes', codes, model, images, (n) => n === width, `${width}`);
    if (!isTensor(mask) || mask.type !== 'bool' || mask.dims.join() !== `${width}`) {
      throw new DetailFlowError('invalid-argument', `keep.mask is ${describe(mask)}; give bool [${width}]`);
    }
    const has = (place: number) => mask.data[place] !== 0;
    const at = (image: number, place: number) => (has(place) ? codes.data[image * width + place] : undefined);
    return { has, at };
  }
  return { has: () => false, at: () => undefined };
}

function checkCodes(
  name: string,
  tensor: Tensor<'int32'>,
  { vocabularySize }: Pick<TokenModel, 'vocabularySize'>,
  images: number,
  fits: (width: number) => boolean,
  width: string,
): void {
  const isCodes = isTensor(tensor) && tensor.type === 'int32' && tensor.dims.length === 2;
  const isShaped = isCodes && tensor.dims[0] === images && fits(tensor.dims[1]);
  if (isShaped && tensor.data.every((code) => code >= 0 && code < vocabularySize)) return;
  throw new DetailFlowError(
    'invalid-argument',
    `${name} is ${describe(tensor)}; give int32 [${images}, ${width}] of codes 0..${vocabularySize - 1}`,
  );
}
