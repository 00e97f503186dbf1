import { DetailFlowError, type ParameterSpec } from '@detailflow/core';
import { isOfDecoder } from '@detailflow/tokenizer';
import type { QuantiserLossOptions } from '@detailflow/tokenizer/training';
import type { AdversarialRecipe } from './losses/adversarial';
import type { AdversaryReport } from './losses/adversary';
import type { AlignmentRecipe } from './losses/alignment';
import type { PerceptualRecipe } from './losses/perceptual';
import type { RepaRecipe } from './losses/repa';
import type { OptimiserOptions } from './optimiser';
import type { RevivalOptions } from './revival';
import type { ScheduleOptions } from './schedule';
import type { SizeRecipe } from './step-size';
import type { PixelLoss } from './tokenizer-graph';
import type { StepVariant } from './tokenizer-variant';

/** How a tokenizer is trained. Source: docs/method.md section 5. */
export interface TokenizerRecipe {
  /** Images of one run of a graph; a batch is several runs. */
  readonly microBatch: number;
  readonly learningRate: number;
  readonly schedule: ScheduleOptions;
  readonly optimiser: OptimiserOptions;
  /** Share of the running mean of the parameters that stays at a step; none is kept without it. */
  readonly averageDecay?: number;
  /** Probability of a step with fewer tokens (`degradation_prob`). */
  readonly degradation: number;
  /** Probability of a self-correction step. */
  readonly correction: number;
  /**
   * Into how many parts a batch is divided that each have a draw of tokens and noise of their own, as each process of the official training
   * has; default 1. Parts have as many images, and the same mean gradient as one batch would.
   */
  readonly draws?: number;
  readonly pixelLoss: PixelLoss;
  /** Factor of the distance of pixels (`reconstruction_weight`); default 1. */
  readonly pixelWeight?: number;
  readonly quantiser: QuantiserLossOptions;
  /** Images of many sizes; all are full ones without it. */
  readonly sizes?: SizeRecipe;
  /** Only the decoder learns (`finetune_decoder`): parameters whose names contain `decoder.` or `post_quant_conv`. */
  readonly finetuneDecoder?: boolean;
  /** Beginnings of the names of parameters that stay as they are, such as `encoder.visual_model` or `quantize`. */
  readonly frozen?: readonly string[];
  /** Towers that begin with SigLIP2's, where the run begins with no other weights. */
  readonly pretrained?: { readonly encoder: boolean; readonly decoder: boolean };
  readonly revival?: RevivalOptions;
  readonly perceptual?: PerceptualRecipe;
  readonly adversarial?: AdversarialRecipe;
  readonly alignment?: AlignmentRecipe;
  readonly repa?: RepaRecipe;
}

/** Which parameters a recipe leaves as they are. */
export function frozenBy({
  finetuneDecoder = false,
  frozen = [],
}: Pick<TokenizerRecipe, 'finetuneDecoder' | 'frozen'>): (name: string) => boolean {
  return (name) =>
    (finetuneDecoder && !isOfDecoder(name)) ||
    frozen.some((start) => name === start || name.startsWith(start.endsWith('.') ? start : `${start}.`));
}

/**
 * What a recipe learns, and what it leaves as it is.
 * @throws DetailFlowError `config` when a name of `frozen` is nobody's, or nothing is left to learn
 */
export function dividedByFrozen(
  all: readonly ParameterSpec[],
  recipe: Pick<TokenizerRecipe, 'finetuneDecoder' | 'frozen'>,
  section: 'tokenizer' | 'tokenModel',
  file?: string,
): { readonly specs: readonly ParameterSpec[]; readonly frozen: readonly ParameterSpec[] } {
  const unknown = recipe.frozen?.find((start) => {
    const isOf = frozenBy({ frozen: [start] });
    return !all.some(({ name }) => isOf(name));
  });
  if (unknown !== undefined) {
    const first = all.slice(0, 5).map(({ name }) => name);
    throw new DetailFlowError(
      'config',
      `${JSON.stringify(unknown)} is no parameter and no part of the model; there are ${first.join(', ')}, ...`,
      { file, entry: `${section}.frozen` },
    );
  }
  const isFrozen = frozenBy(recipe);
  const specs = all.filter(({ name }) => !isFrozen(name));
  if (specs.length === 0)
    throw new DetailFlowError('config', 'everything is frozen: there is nothing to learn', {
      ...{ file, entry: `${section}.frozen` },
    });
  return { specs, frozen: all.filter(({ name }) => isFrozen(name)) };
}

/** What a step did. */
export interface TokenizerStepReport {
  readonly step: number;
  readonly variant: StepVariant;
  /** What each part of the batch was, where they are several; `variant` is the first. */
  readonly variants?: readonly StepVariant[];
  /** Images that were learned from: fewer than were given where large sizes take fewer. */
  readonly images: number;
  readonly loss: number;
  readonly reconstruction: number;
  readonly vq: number;
  readonly commit: number;
  readonly entropy: number;
  /** The terms of further losses, as they were added: what the recipe has of perceptual, adversarial, alignment and repa. */
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
