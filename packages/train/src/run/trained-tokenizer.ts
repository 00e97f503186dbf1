import type { Weights } from '@detailflow/core';
import type { HoldOutRecord } from '@detailflow/data';

/** A tokenizer to make codes with: the settings that it was trained with, and its weights. */
export interface TrainedTokenizer {
  /** What its training held out, where that is known: the same images must be held out now. */
  readonly heldOut?: HoldOutRecord;
  /** For messages. */
  readonly file?: string;
  readonly config: object;
  readonly weights: Weights;
}
