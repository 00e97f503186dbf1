import { type Backend, checkOptions, DetailFlowError } from '@detailflow/core';
import { codeViewCount, type SkippedImage, skipUnreadable } from '@detailflow/data';
import { openDataset } from '@detailflow/data/node';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import type { DataConfig, TrainingConfig } from '../training-config';
import { codesOrigin, codesSettings } from './codes-origin';
import { openingOf, viewOf } from './data-views';
import { type CodesPart, encodeShard } from './extract-codes';
import { differenceOf, type ImagesIdentity, requireImages } from './images-identity';
import { digestOf } from './run-images';
import { requireConfig } from './starting-parameters';
import type { TrainedTokenizer } from './trained-tokenizer';
import { readArrays, weightsOf } from './weights';

/** The settings that codes depend on. */
export type CodesConfig = Pick<TrainingConfig, 'seed' | 'data' | 'tokenizer'> & {
  readonly tokenModel: Pick<TrainingConfig['tokenModel'], 'model' | 'imageSize'>;
};

/** What the codes of a run are of and made by. */
export interface CodesWork {
  readonly config: CodesConfig;
  /** Which images are trained with. */
  readonly images: ImagesIdentity;
  /** Digest of tokenizer, images and settings, as it stands in codes.json. */
  readonly origin: string;
  /** Views of every image. */
  readonly views: number;
}

/** Options of {@link openCodesWork}. */
export interface OpenCodesWorkOptions extends CodesWork {
  readonly tokenizer: TrainedTokenizer;
  /** The data set: see `openDataset`. */
  readonly data: string;
  readonly backend: Backend;
}

/** Makes shards of codes as the run itself would. */
export interface OpenedCodesWork {
  /** Codes of images first .. first + count - 1, all views of each. */
  codes(first: number, count: number, options?: { readonly signal?: AbortSignal }): Promise<CodesPart>;
  /** Closes data set and tokenizer. */
  close(): Promise<void>;
}

/** Images of a file of codes. @throws DetailFlowError `invalid-argument` */
export function codesShard(images = 4096): number {
  if (Number.isSafeInteger(images) && images >= 1 && images <= 1_000_000) return images;
  throw new DetailFlowError('invalid-argument', `${images} images of a file of codes; give 1 to 1000000`);
}

/** How images of a size are seen when they are encoded, and how many go through the tokenizer at once. */
export const codesView = (data: DataConfig, size: number) => ({
  view: { ...viewOf(data), views: data.views, cropRanges: data.cropRanges, size },
  batch: 32,
});

/**
 * Opens data set and tokenizer to make codes for a run that is somewhere else, and checks that they are those of the run; images
 * are compared shard by shard.
 * @throws DetailFlowError `config` when they are not
 */
export async function openCodesWork(options: OpenCodesWorkOptions): Promise<OpenedCodesWork> {
  checkOptions('openCodesWork', options, {
    ...{ config: true, images: true, origin: true, views: true, tokenizer: true, data: true, backend: true },
  });
  const { config, images, origin, views, tokenizer: given, data, backend } = options;
  const model = config.tokenizer.model;
  requireConfig(given.config, model, 'tokenizer');
  const parameters = await readArrays(tokenizerParameters(model), given.weights);
  if (codesOrigin({ parameters, images: digestOf(images), settings: codesSettings(config) }) !== origin) {
    throw new DetailFlowError(
      'config',
      'the tokenizer is another one than that of the run, or its settings are',
    );
  }
  if (views !== codeViewCount(config.data.views, config.data.cropRanges)) {
    throw new DetailFlowError(
      'config',
      `the run wants ${views} views of every image, its settings say otherwise`,
    );
  }
  const opened = await openDataset(data, openingOf(config));
  const close = async () => {
    for (const part of [opened.train, opened.heldOut]) await part.close?.();
  };
  try {
    const { labels, classNames } = opened.train;
    const difference = differenceOf(images, { ...images, images: labels.length, classNames });
    if (difference !== undefined) {
      throw new DetailFlowError('config', `is not what the run was begun with: ${difference}`, {
        file: data,
      });
    }
    let skipped: SkippedImage[] = [];
    const dataset = await skipUnreadable(opened.train, (image) => skipped.push(image));
    // Where whole classes are left out, images have other numbers: then all are compared.
    const isWhole = dataset.labels.length === labels.length;
    const tokenizer = createTokenizer({
      ...{ config: model, backend },
      weights: weightsOf(tokenizerParameters(model), parameters),
    });
    const header = { tokens: config.tokenModel.model.tokens, views };
    let isCompared = false;
    return {
      async codes(first, count, { signal } = {}) {
        if (!isCompared) {
          const part = isWhole ? { first, count } : { first: 0, count: labels.length };
          await requireImages(opened.train, images, { ...part, signal });
          isCompared = !isWhole;
        }
        const how = {
          ...codesView(config.data, config.tokenModel.imageSize ?? model.imageSize),
          tokenizers: [tokenizer],
          dataset,
          header,
          seed: config.seed,
          signal,
        };
        const codes = await encodeShard(how, first, count);
        const found = skipped;
        skipped = [];
        return { codes, skipped: found };
      },
      async close() {
        await tokenizer.dispose();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}
