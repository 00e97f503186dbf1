import type { Weights } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';

/** A tokenizer to make codes with: the settings that it was trained with, and its weights. */
export interface TrainedTokenizer {
  readonly config: TokenizerConfig;
  readonly weights: Weights;
}
