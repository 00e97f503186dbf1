import { createTokenModel, type TokenModelConfig, tokenModelParameters } from '@detailflow/ar-model';
import { type Backend, type Picture, pictureFromPixels, Tensor } from '@detailflow/core';
import { gridPicture, upscaleNearest } from '@detailflow/data';
import { psnr } from '@detailflow/eval';
import { generate } from '@detailflow/sampler';
import {
  createTokenizer,
  type Tokenizer,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { weightsOf } from './weights';

/** Numbers of tokens at which reconstructions are looked at: 1, 2, 4, ... as far as they exist, and all. */
export function previewCounts({ tokens, causalTokens, groupSize }: TokenizerConfig): number[] {
  const counts: number[] = [];
  for (let n = 1; n < tokens; n *= 2) if (n <= causalTokens || n % groupSize === 0) counts.push(n);
  return [...counts, tokens];
}

/** How well images are restored, and how that looks. */
export interface TokenizerValidation {
  /** Mean PSNR in dB by number of tokens, at full size. */
  readonly psnr: Readonly<Record<string, number>>;
  /** One row an image: the original, then its reconstructions from few tokens to all. */
  readonly picture: Picture;
}

const BATCH = 64;
const SHOWN = 8;

/** Restores images [n, 3, S, S] from 1, 2, 4, ... and all tokens. */
export async function validateTokenizer(
  backend: Backend,
  options: { readonly config: TokenizerConfig; readonly parameters: Arrays; readonly images: Tensor },
): Promise<TokenizerValidation> {
  const { config, parameters, images } = options;
  const tokenizer = createTokenizer({
    config,
    weights: weightsOf(tokenizerParameters(config), parameters),
    backend,
  });
  try {
    return await restore(tokenizer, images);
  } finally {
    await tokenizer.dispose();
  }
}

async function restore(tokenizer: Tokenizer, images: Tensor): Promise<TokenizerValidation> {
  const [count, , size] = images.dims;
  const counts = previewCounts(tokenizer.config);
  const sums = counts.map(() => 0);
  const rows: Picture[][] = [];
  for (let first = 0; first < count; first += BATCH) {
    const batch = sliceImages(images, first, Math.min(BATCH, count - first));
    const codes = await tokenizer.encode(batch);
    const shown = rows.length < SHOWN ? Math.min(SHOWN, batch.dims[0]) : 0;
    for (let i = 0; i < shown; i++) rows.push([pictureFromPixels(batch, i)]);
    for (const [c, tokens] of counts.entries()) {
      const restored = await tokenizer.decode(codes, { tokens, size });
      for (let i = 0; i < batch.dims[0]; i++) {
        sums[c] += psnr(imageOf(restored, i), imageOf(batch, i));
        if (i < shown) rows[i].push(pictureFromPixels(restored, i));
      }
    }
  }
  return {
    psnr: Object.fromEntries(counts.map((tokens, c) => [`${tokens}`, round(sums[c] / count)])),
    picture: enlarged(gridPicture(rows.flat(), { columns: counts.length + 1 })),
  };
}

const round = (x: number) => Math.round(1e4 * x) / 1e4;

/** Small pictures as squares of pixels that can be seen. */
function enlarged(picture: Picture): Picture {
  return picture.width < 600 ? upscaleNearest(picture, Math.ceil(600 / picture.width)) : picture;
}

const SAMPLES = 8;
const MOST_CLASSES = 10;

/** A grid of samples: one row a class. */
export async function sampleGrid(
  backend: Backend,
  options: {
    readonly tokenizer: Tokenizer;
    readonly config: TokenModelConfig;
    readonly parameters: Arrays;
    readonly cfg: number;
  },
): Promise<Picture> {
  const { tokenizer, config, parameters, cfg } = options;
  const weights = weightsOf(tokenModelParameters(config), parameters);
  const model = createTokenModel({ config, weights, backend });
  try {
    const classes = Math.min(MOST_CLASSES, config.classes);
    const labels = Array.from({ length: classes * SAMPLES }, (_, i) => Math.floor(i / SAMPLES));
    for await (const step of generate({ tokenizer, model, labels, cfg, seed: 0 })) {
      if (step.count < step.total) continue;
      const pixels = await step.pixels();
      const pictures = labels.map((_, i) => pictureFromPixels(pixels, i));
      return enlarged(gridPicture(pictures, { columns: SAMPLES }));
    }
    throw new Error('no step was made');
  } finally {
    await model.dispose();
  }
}

/** Images first .. first + count - 1 of [n, 3, S, S]. */
export function sliceImages(images: Tensor, first: number, count: number): Tensor {
  const [, ...dims] = images.dims;
  const size = dims.reduce((a, b) => a * b, 1);
  const data = (images.data as Float32Array).subarray(first * size, (first + count) * size);
  return new Tensor('float32', data, [count, ...dims]);
}

function imageOf(images: Tensor, index: number): Float32Array {
  return sliceImages(images, index, 1).data as Float32Array;
}
