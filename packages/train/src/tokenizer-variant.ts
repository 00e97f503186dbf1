import { checkOptions, RandomStream, resizeImages, Tensor, type Tensors } from '@detailflow/core';
import {
  attentionMask,
  NEAREST_CODES,
  placementMatrix,
  type ResolutionMap,
  type TokenizerConfig,
} from '@detailflow/tokenizer';
import { Purpose } from './purpose';
import { drawStepImages, type SizeRecipe, type StepImages } from './step-size';

/** What is drawn once for a whole step, or for a part of its batch: how many tokens are decoded, at which size, and which are made wrong. */
export interface StepVariant {
  /** Tokens that the decoder is given, t. */
  readonly tokens: number;
  /** The target is shrunk to this size, and then brought to `size`. */
  readonly targetSize: number;
  /** Side of the decoded image in pixels. */
  readonly size: number;
  /** First wrong token; null in a step without self-correction. */
  readonly noiseIndex: number | null;
  /** Side and tokens of the images that are encoded; full ones if omitted. */
  readonly image?: StepImages;
}

/** Which step a variant is drawn for, and how probable each kind is. */
export interface VariantOptions {
  readonly seed: number;
  readonly step: number;
  /** Probability that an image is decoded from fewer tokens. */
  readonly degradation: number;
  /** Probability of a self-correction step. */
  readonly correction: number;
  /** Images of other sizes than the full one. */
  readonly sizes?: SizeRecipe;
  /** Which of several draws of the step it is; all have images of the same size. */
  readonly draw?: { readonly index: number; readonly of: number };
}

/** Draws the variant of a step. Source: docs/method.md section 5. */
export function drawVariant(map: ResolutionMap, options: VariantOptions): StepVariant {
  checkOptions('drawVariant', options, {
    ...{ seed: true, step: true, degradation: true, correction: true, sizes: true, draw: true },
  });
  const { draw = { index: 0, of: 1 } } = options;
  const position = options.step * draw.of + draw.index;
  const random = new RandomStream({ seed: options.seed, purpose: Purpose.variant, position });
  const [degradation, place, correction, noise] = Array.from({ length: 4 }, () => random.uniform());
  const drawn =
    options.sizes && drawStepImages(map, options.sizes, { seed: options.seed, step: options.step });
  const image = drawn && drawn.size !== map.maxImageSize ? drawn : undefined;
  const { size: full, tokens: all } = image ?? { size: map.maxImageSize, tokens: map.tokens };
  const limit = map.degradationLimit(all);
  let variant = { tokens: all, targetSize: full, size: full };
  if (degradation < options.degradation && limit > 0) {
    const { tokens, targetRes, decRes } = map.degradation(1 + Math.floor(place * limit));
    variant = { tokens, targetSize: targetRes, size: decRes };
  }
  const choices = correction < options.correction ? map.noiseTokenLimit(variant.tokens) : null;
  const noiseIndex =
    choices === null ? null : map.noiseTokenIndex(Math.floor(noise * choices), variant.tokens);
  return { ...variant, noiseIndex, ...(image && { image }) };
}

/** The images of a step. */
export const imagesOf = (
  { imageSize: size, tokens }: Pick<TokenizerConfig, 'imageSize' | 'tokens'>,
  { image }: StepVariant,
): StepImages => image ?? { size, tokens };

/** Feeds that all micro-batches of a draw share: masks that say which variant it is. */
export function variantFeeds(config: TokenizerConfig, variant: StepVariant): Tensors {
  const { groupSize, causalTokens } = config;
  const { size: imageSize, tokens } = imagesOf(config, variant);
  const { patchSize, positionGrid: grid } = config.decoder;
  const [side, fullSide] = [variant.size / patchSize, imageSize / patchSize];
  const patches = fullSide ** 2;
  const length = patches + tokens;
  const isDrawn = (pixel: number, stride: number, extent: number) =>
    pixel % stride < extent && Math.floor(pixel / stride) < extent;

  const pixelWeights = Float32Array.from({ length: imageSize ** 2 }, (_, i) =>
    isDrawn(i, imageSize, variant.size) ? 1 / variant.size ** 2 : 0,
  );
  const visible = config.causalDecoder
    ? attentionMask({
        patches,
        tokens,
        groupSize,
        causalTokens,
        patchesSeeLatents: true,
        latentsSeePatches: false,
      })
    : new Uint8Array(length * length).fill(1);
  for (let key = 0; key < length; key++) {
    const used = key < patches ? isDrawn(key, fullSide, side) : key - patches < variant.tokens;
    if (used) continue;
    for (let query = 0; query < length; query++) visible[query * length + key] = 0;
  }
  const feeds: Record<string, Tensor> = {
    pixelWeights: new Tensor('float32', pixelWeights, [1, 1, imageSize, imageSize]),
    decoderPlaces: new Tensor('float32', placementMatrix(side, fullSide, grid), [patches, grid ** 2]),
    decoderVisible: new Tensor('bool', visible, [length, length]),
  };
  if (variant.noiseIndex === null) return feeds;
  const clean = variant.noiseIndex;
  const prefix = noiseEnd(config, clean);
  const before = (end: number) =>
    new Tensor(
      'bool',
      Uint8Array.from({ length: tokens }, (_, i) => Number(i < end)),
      [tokens],
    );
  return { ...feeds, isClean: before(clean), isPrefix: before(prefix) };
}

/** The first token that is repaired when `noiseIndex` is the first wrong one. */
export function noiseEnd({ causalTokens, groupSize }: TokenizerConfig, noiseIndex: number): number {
  return noiseIndex + (noiseIndex < causalTokens ? 1 : groupSize);
}

/** What each token takes among its nearest codes, per token and image: i32 [B, n], n being all tokens unless said. */
export function drawRanks(
  config: TokenizerConfig,
  options: { seed: number; step: number; image: number; batch: number; tokens?: number },
): Tensor<'int32'> {
  checkOptions('drawRanks', options, { seed: true, step: true, image: true, batch: true, tokens: true });
  const { codebookSize } = config;
  const { tokens = config.tokens } = options;
  const limit = Math.min(NEAREST_CODES, codebookSize);
  const random = new RandomStream({
    seed: options.seed + options.image,
    purpose: Purpose.ranks,
    position: options.step,
  });
  const data = Int32Array.from({ length: options.batch * tokens }, () => random.integer(limit));
  return new Tensor('int32', data, [options.batch, tokens]);
}

/**
 * What the decoder should draw: images [B, 3, S, S] shrunk to the target size, brought to the decoded size, and laid in
 * the top left corner of [B, 3, S, S].
 */
export function variantTarget(
  images: Float32Array,
  dims: readonly number[],
  variant: StepVariant,
): Float32Array {
  const full = dims[3];
  const { targetSize, size } = variant;
  if (size === full && targetSize === full) return images;
  const square = (side: number) => ({ height: side, width: side });
  const shrunk = resizeImages(images, dims, square(targetSize), 'area');
  const small = resizeImages(shrunk, [dims[0], dims[1], targetSize, targetSize], square(size), 'degradation');
  const out = new Float32Array(images.length);
  for (let row = 0; row < dims[0] * dims[1] * size; row++) {
    const plane = Math.floor(row / size);
    out.set(small.subarray(row * size, (row + 1) * size), plane * full * full + (row % size) * full);
  }
  return out;
}
