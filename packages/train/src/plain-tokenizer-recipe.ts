import type { TrainableQuantiser } from '@detailflow/blocks';
import type { TokenizerRecipe, TokenizerStepReport } from './tokenizer-recipe';

/** How a tokenizer that restores whole images is trained. */
export interface PlainTokenizerRecipe
  extends Pick<
    TokenizerRecipe,
    | 'microBatch'
    | 'learningRate'
    | 'schedule'
    | 'optimiser'
    | 'averageDecay'
    | 'pixelLoss'
    | 'pixelWeight'
    | 'frozen'
    | 'revival'
    | 'perceptual'
    | 'adversarial'
  > {
  readonly quantiser: TrainableQuantiser;
}

/** What a step did: that of DetailFlow's tokenizer, without draws of tokens and sizes. */
export type PlainTokenizerStepReport = Omit<TokenizerStepReport, 'variant' | 'images'>;
