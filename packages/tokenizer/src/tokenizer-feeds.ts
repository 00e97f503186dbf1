import { DetailFlowError, describe, requireTensor, resizeMatrix, Tensor } from '@detailflow/core';
import { attentionMask } from './attention-mask';
import type { TokenizerConfig } from './config';

/**
 * What an encoder is fed for images float32 [B, 3, S, S] and so many tokens.
 * @throws DetailFlowError `invalid-argument`, `shape`
 */
export function encoderFeeds(
  config: TokenizerConfig,
  images: Tensor<'float32'>,
  tokens: number,
): Record<string, Tensor> {
  const must = 'float32 [B, 3, S, S] in [-1, 1], B from 1';
  const { dims } = requireTensor(images, { what: 'images', must, type: 'float32', axes: 4 });
  const [batch, channels, height, width] = dims;
  if (batch < 1 || channels !== 3 || height !== width) {
    throw new DetailFlowError('shape', `images are ${describe(images)}; give ${must}`);
  }
  const side = patchesPerSide(height, config.encoder.patchSize, 'the side of the images');
  const { groupSize } = config;
  const least = Math.max(config.causalTokens, groupSize);
  if (!Number.isInteger(tokens) || tokens < least || tokens > config.tokens || tokens % groupSize !== 0) {
    throw new DetailFlowError(
      'invalid-argument',
      `tokens is ${describe(tokens)}; give a multiple of ${groupSize} from ${least} to ${config.tokens}`,
    );
  }
  return {
    images,
    positions: positionsTensor(tokens),
    resize: resizeTensor(config.encoder.positionGrid, side),
    ...(config.causalEncoder && {
      visible: mask(config, { side, tokens, patchesSeeLatents: false, latentsSeePatches: true }),
    }),
  };
}

/** What a decoder is fed beside codes or latents. @throws DetailFlowError `invalid-argument` for a size of no whole patches */
export function decoderFeeds(
  config: TokenizerConfig,
  { tokens, size }: { readonly tokens: number; readonly size: number },
): Record<string, Tensor> {
  const side = patchesPerSide(size, config.decoder.patchSize, 'size');
  return {
    positions: positionsTensor(tokens),
    resize: resizeTensor(config.decoder.positionGrid, side),
    ...(config.causalDecoder && {
      visible: mask(config, { side, tokens, patchesSeeLatents: true, latentsSeePatches: false }),
    }),
  };
}

/** The first so many tokens of those given. @throws DetailFlowError `invalid-argument` */
export function requireTokens({ tokens: all }: TokenizerConfig, given: number, tokens: number): void {
  if (Number.isInteger(tokens) && tokens >= 1 && tokens <= Math.min(given, all)) return;
  throw new DetailFlowError(
    'invalid-argument',
    `tokens is ${describe(tokens)}; give 1 to ${Math.min(given, all)}`,
  );
}

function patchesPerSide(size: number, patch: number, what: string): number {
  if (Number.isInteger(size) && size >= patch && size % patch === 0 && size <= 65536) return size / patch;
  throw new DetailFlowError(
    'invalid-argument',
    `${what} is ${describe(size)}; give a multiple of the patch size ${patch}`,
  );
}

interface MaskOptions {
  readonly side: number;
  readonly tokens: number;
  readonly patchesSeeLatents: boolean;
  readonly latentsSeePatches: boolean;
}

function mask({ groupSize, causalTokens }: TokenizerConfig, { side, ...rest }: MaskOptions): Tensor {
  const patches = side * side;
  const length = patches + rest.tokens;
  return new Tensor('bool', attentionMask({ patches, groupSize, causalTokens, ...rest }), [length, length]);
}

const positionsTensor = (tokens: number): Tensor =>
  new Tensor(
    'int32',
    Int32Array.from({ length: tokens }, (_, i) => i),
    [tokens],
  );

const resizeTensor = (grid: number, side: number): Tensor =>
  new Tensor('float32', resizeMatrix('bilinear-antialias', grid, side), [side, grid]);
