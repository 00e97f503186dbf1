import { type ImageTokenizer, type Picture, pictureFromPixels, type TokenModel } from '@detailflow/core';
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
import {
  datasetSource,
  type RestoringTokenizer,
  reconstructionSource,
  tokenizerFigures,
} from '@detailflow/eval';
import { generate } from '@detailflow/sampler';
import type { RunTokenizer } from './run-models';

/** How well images are restored, and how that looks. */
export interface TokenizerValidation {
  /** Mean PSNR in dB by number of tokens, at the size that they are worth. */
  readonly psnr: Readonly<Record<string, number>>;
  /** One row an image: the original, then its reconstructions from few tokens to all. */
  readonly picture: Picture;
}

const SHOWN = 8;

/** Restores images of a data set, of as many classes as can be, from 1, 2, 4, ... and all tokens; the tokenizer is let go of. */
export async function validateTokenizer(
  tokenizer: RestoringTokenizer,
  options: {
    readonly model: Pick<RunTokenizer, 'imageSize' | 'previewCounts'>;
    readonly dataset: ImageDataset;
    readonly data: Omit<CenterViewOptions, 'size'>;
    readonly images: number;
    readonly signal?: AbortSignal;
  },
): Promise<TokenizerValidation> {
  const { model, data, images, signal } = options;
  const { imageSize: size, previewCounts: counts } = model;
  const dataset = subset(options.dataset, acrossClasses(options.dataset.labels, images));
  const view = { size, fit: data.fit, background: data.background };
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
      columns.map((column) => wholeEnlarged(pictureFromBytes(column, i), size)),
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
export async function sampleGrid(options: {
  readonly model: TokenModel;
  readonly tokenizer: ImageTokenizer;
  readonly cfg: number;
  readonly signal?: AbortSignal;
}): Promise<Picture> {
  const { tokenizer, model, cfg, signal } = options;
  const classes = Math.min(MOST_CLASSES, model.classes);
  const columns = Math.min(SAMPLES, Math.floor(MOST_PICTURES / classes));
  const labels = evenlySpaced(model.classes, classes).flatMap((label) => Array(columns).fill(label));
  for await (const step of generate({ tokenizer, model, labels, cfg, seed: 0, signal })) {
    if (step.count < step.total) continue;
    const pixels = await step.pixels();
    const pictures = labels.map((_, i) => pictureFromPixels(pixels, i));
    return enlarged(gridPicture(pictures, { columns }));
  }
  throw new Error('no step was made');
}
