import { createTokenModel, type TokenModelConfig, tokenModelParameters } from '@detailflow/ar-model';
import { DetailFlowError } from '@detailflow/core';
import { collectFeatures, datasetSource, frechetDistance, generatedSource } from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import type { Tokenizer } from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { centerOf } from './data-views';
import type { StageContext } from './stage-context';
import { weightsOf } from './weights';

/** Guidance of the pictures. */
const CFG = 1.5;

/** Judges pictures that a model draws while it is trained, by the features of a network. */
export interface PictureJudge {
  /** Frechet distance of drawn pictures from the held-out images, and how many were compared. */
  frechet(options: {
    readonly config: TokenModelConfig;
    readonly parameters: Arrays;
    readonly tokenizer: Tokenizer;
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
      async frechet({ config, parameters, tokenizer, signal }) {
        const weights = weightsOf(tokenModelParameters(config), parameters);
        const model = createTokenModel({ config, weights, backend });
        try {
          const source = generatedSource({ model, tokenizer, count, classes, seed: 0, cfg: CFG });
          const drawn = await collectFeatures(source, { extractor, signal });
          return { frechet: frechetDistance(drawn.statistics.pool, real.statistics.pool), drawn: count };
        } finally {
          await model.dispose();
        }
      },
      dispose: () => extractor.dispose(),
    };
  } catch (error) {
    await extractor.dispose();
    throw error;
  }
}
