import { DetailFlowError, type ImageTokenizer, type TokenModel } from '@detailflow/core';
import { collectFeatures, datasetSource, frechetDistance, generatedSource } from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import { centerOf } from './data-views';
import type { StageContext } from './stage-context';

/** Guidance of the pictures. */
const CFG = 1.5;

/** Judges pictures that a model draws while it is trained, by the features of a network. */
export interface PictureJudge {
  /** Frechet distance of drawn pictures from the held-out images, and how many were compared. */
  frechet(options: {
    readonly model: TokenModel;
    readonly tokenizer: ImageTokenizer;
    readonly signal?: AbortSignal;
  }): Promise<{ readonly frechet: number; readonly drawn: number }>;
  dispose(): Promise<void>;
}

/** @throws DetailFlowError `config` without a network */
export function requireJudge(file: string | undefined): string {
  if (file !== undefined) return file;
  throw new DetailFlowError('config', 'needs a network that judges pictures: give its file as "features"', {
    entry: 'validation.generate',
  });
}

/**
 * Opens the network that judges drawn pictures, and takes the features of the held-out images in.
 * @throws DetailFlowError `config` without a network; as `openExtractor`
 */
export async function pictureJudge(
  run: StageContext,
  { size, count, classes }: { readonly size: number; readonly count: number; readonly classes: number },
): Promise<PictureJudge> {
  const [backend] = run.backends;
  const file = requireJudge(run.options.features);
  const extractor = await openExtractor(file, backend);
  try {
    const view = { ...centerOf(run.config.data), size };
    const { signal } = run.options;
    const real = await collectFeatures(datasetSource(run.data.heldOut, view), { extractor, signal });
    return {
      async frechet({ model, tokenizer, signal }) {
        const source = generatedSource({ model, tokenizer, count, classes, seed: 0, cfg: CFG });
        const drawn = await collectFeatures(source, { extractor, signal });
        return { frechet: frechetDistance(drawn.statistics.pool, real.statistics.pool), drawn: count };
      },
      dispose: () => extractor.dispose(),
    };
  } catch (error) {
    await extractor.dispose();
    throw error;
  }
}
