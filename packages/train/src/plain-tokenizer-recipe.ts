import type { TrainableQuantiser } from '@detailflow/blocks';
import type { AdversaryReport } from './losses/adversary';
import type { TokenizerRecipe } from './tokenizer-recipe';

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

/** What a step did. */
export interface PlainTokenizerStepReport {
  readonly step: number;
  readonly loss: number;
  readonly reconstruction: number;
  readonly vq: number;
  readonly commit: number;
  readonly entropy: number;
  /** The perceptual and the adversarial term, as they were added, where the recipe has them. */
  readonly extra?: Readonly<Record<string, number>>;
  /** The discriminator, once it plays. */
  readonly adversary?: AdversaryReport;
  /** Norm of the gradients before clipping. */
  readonly norm: number;
  readonly learningRate: number;
  /** Share of the codebook among the latest 65536 codes. */
  readonly usage: number;
  /** Codes that were dead and got a new life. */
  readonly revived: number;
}
