import { DetailFlowError, type Weights } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import type { TrainingConfig } from '../training-config';

/** A tokenizer to make codes with: the settings that it was trained with, and its weights. */
export interface TrainedTokenizer {
  readonly config: TokenizerConfig;
  readonly weights: Weights;
}

/** @throws DetailFlowError `config` naming the first setting in which a tokenizer differs from that of the settings */
export function checkConfig(given: TrainedTokenizer, config: Pick<TrainingConfig, 'tokenizer'>): void {
  const wanted = config.tokenizer.model;
  const names = Object.keys(wanted) as (keyof TokenizerConfig)[];
  const different = names.find((name) => JSON.stringify(wanted[name]) !== JSON.stringify(given.config[name]));
  if (different === undefined) return;
  const [is, should] = [given.config[different], wanted[different]].map((value) => JSON.stringify(value));
  throw new DetailFlowError('config', `the tokenizer that was given has ${is}, the settings say ${should}`, {
    entry: `tokenizer.model.${different}`,
  });
}
