import { createTokenModel, type TokenModelConfig, tokenModelParameters } from '@detailflow/ar-model';
import { type Backend, type Picture, pictureFromPixels } from '@detailflow/core';
import {
  acrossClasses,
  type CenterViewOptions,
  evenlySpaced,
  gridPicture,
  type ImageDataset,
  pictureFromBytes,
  subset,
  upscaleNearest,
  wholeEnlarged,
} from '@detailflow/data';
import { datasetSource, previewCounts, reconstructionSource, tokenizerFigures } from '@detailflow/eval';
import { generate } from '@detailflow/sampler';
import {
  createMixtureTokenizer,
  createTokenizer,
  type Tokenizer,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { weightsOf } from './weights';

/** How well images are restored, and how that looks. */
export interface TokenizerValidation {
  /** Mean PSNR in dB by number of tokens, at the size that they are worth. */
  readonly psnr: Readonly<Record<string, number>>;
  /** One row an image: the original, then its reconstructions from few tokens to all. */
  readonly picture: Picture;
}

const SHOWN = 8;

/** Restores images of a data set, of as many classes as can be, from 1, 2, 4, ... and all tokens. */
export async function validateTokenizer(
  backend: Backend,
  options: {
    readonly config: TokenizerConfig;
    readonly parameters: Arrays;
    readonly dataset: ImageDataset;
    readonly data: Omit<CenterViewOptions, 'size'>;
    readonly images: number;
    readonly signal?: AbortSignal;
  },
): Promise<TokenizerValidation> {
  const { config, parameters, data, images, signal } = options;
  const dataset = subset(options.dataset, acrossClasses(options.dataset.labels, images));
  const weights = weightsOf(tokenizerParameters(config), parameters);
  const tokenizer = (config.mixture ? createMixtureTokenizer : createTokenizer)({ config, weights, backend });
  const view = { size: config.imageSize, fit: data.fit, background: data.background };
  const counts = previewCounts(config);
  try {
    const restorations = counts.map((tokens) => ({ tokens, noiseIndex: null }));
    const figures = await tokenizerFigures({ tokenizer, dataset, view, restorations, signal });
    const shown = Math.min(SHOWN, figures.images);
    const columns = [await datasetSource(dataset, view).read(0, shown)];
    for (const tokens of counts) {
      columns.push(
        await reconstructionSource(dataset, view, { tokenizer, tokens }).read(0, shown, { signal }),
      );
    }
    const rows = Array.from({ length: shown }, (_, i) =>
      columns.map((column) => wholeEnlarged(pictureFromBytes(column, i), config.imageSize)),
    );
    return {
      psnr: Object.fromEntries(figures.restorations.map(({ tokens, psnr }) => [`${tokens}`, round(psnr)])),
      picture: enlarged(gridPicture(rows.flat(), { columns: columns.length })),
    };
  } finally {
    await tokenizer.dispose();
  }
}

const round = (x: number) => Math.round(1e4 * x) / 1e4;

/** Small pictures as squares of pixels that can be seen. */
function enlarged(picture: Picture): Picture {
  return picture.width < 600 ? upscaleNearest(picture, Math.ceil(600 / picture.width)) : picture;
}

/** Samples of a class, classes, and pictures in all. */
const [SAMPLES, MOST_CLASSES, MOST_PICTURES] = [8, 20, 80];

/** A grid of samples: one row a class, of classes evenly spaced among all. */
export async function sampleGrid(
  backend: Backend,
  options: {
    readonly tokenizer: Tokenizer;
    readonly config: TokenModelConfig;
    readonly parameters: Arrays;
    readonly cfg: number;
    readonly signal?: AbortSignal;
  },
): Promise<Picture> {
  const { tokenizer, config, parameters, cfg, signal } = options;
  const weights = weightsOf(tokenModelParameters(config), parameters);
  const model = createTokenModel({ config, weights, backend });
  try {
    const classes = Math.min(MOST_CLASSES, config.classes);
    const columns = Math.min(SAMPLES, Math.floor(MOST_PICTURES / classes));
    const labels = evenlySpaced(config.classes, classes).flatMap((label) => Array(columns).fill(label));
    for await (const step of generate({ tokenizer, model, labels, cfg, seed: 0, signal })) {
      if (step.count < step.total) continue;
      const pixels = await step.pixels();
      const pictures = labels.map((_, i) => pictureFromPixels(pixels, i));
      return enlarged(gridPicture(pictures, { columns }));
    }
    throw new Error('no step was made');
  } finally {
    await model.dispose();
  }
}
