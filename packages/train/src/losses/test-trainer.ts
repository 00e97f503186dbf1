import type { Backend } from '@detailflow/core';
import { imageValues, shapesDataset } from '@detailflow/data';
import { TokenizerTrainer, type TokenizerTrainerOptions } from '../tokenizer-trainer';
import { parseTrainingConfig } from '../training-config';

const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 8, patchSize: 4, positionGrid: 2 };
const { tokenizer } = parseTrainingConfig({
  preset: 'tiny-32',
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 6, groupSize: 2, causalTokens: 2, codebookSize: 16, codebookDim: 4 },
      encoder: tower,
      decoder: tower,
    },
    ...{ steps: 40, batch: 4, microBatch: 2, warmup: 2, degradation: 0.6, correction: 0.5 },
  },
  tokenModel: { model: { dim: 8, heads: 2 } },
});

/** Four shapes of 16 pixels. */
export async function batch(): Promise<Float32Array> {
  const size = 16;
  const shapes = shapesDataset({ images: 4, size });
  const values = new Float32Array(4 * 3 * size ** 2);
  for (let i = 0; i < 4; i++) {
    imageValues(await shapes.image(i), size, values.subarray(i * 3 * size ** 2, (i + 1) * 3 * size ** 2));
  }
  return values;
}

/** A trainer of a tiny tokenizer of 16 pixels, with a recipe that differs in some respects. */
export const tinyTrainer = (
  backend: Backend,
  over: Partial<TokenizerTrainerOptions['recipe']>,
  networks: TokenizerTrainerOptions['networks'],
) =>
  TokenizerTrainer.create({
    config: tokenizer.model,
    recipe: { ...tokenizer.recipe, ...over },
    backends: [backend],
    seed: 3,
    networks,
  });
