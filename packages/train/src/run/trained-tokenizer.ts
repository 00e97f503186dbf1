import type { Weights } from '@detailflow/core';

/** A tokenizer to make codes with: the settings that it was trained with, and its weights. */
export interface TrainedTokenizer {
  readonly config: object;
  readonly weights: Weights;
}
