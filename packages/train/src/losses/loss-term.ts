import type { ParameterSpec, Tensor, Tensors, Value, Weights } from '@detailflow/core';
import type { LossContext } from '../tokenizer-graph';

/** A term of the tokenizer's loss beyond pixels, quantiser and the game against a discriminator. */
export interface LossTerm<Context = LossContext> {
  /** Of the output of the graph, and in the log. */
  readonly name: 'perceptual' | 'alignment' | 'repa';
  /** What is learned beside the tokenizer. */
  readonly specs: readonly ParameterSpec[];
  /** What a graph reads of a fixed network. */
  readonly weights?: Weights;
  /** Layer of the decoder whose patches it needs. */
  readonly hiddenLayer?: number;
  /** [1], times its weight. */
  loss(context: Context): Value;
  /** What the term is fed with at a step. */
  feeds(moment: StepMoment, part: StepPart): Promise<Tensors>;
}

/** Which step it is. */
export interface StepMoment {
  readonly seed: number;
  readonly step: number;
  /** Side in pixels of the images of the step, and of what is decoded, which lies in their top left corner. */
  readonly canvas: number;
  readonly size: number;
  readonly isCorrected: boolean;
}

/** A micro-batch of the step. */
export interface StepPart {
  /** Which one. */
  readonly place: number;
  /** float32 [B, 3, S, S] in [-1, 1]. */
  readonly images: Tensor;
  /** What should be decoded, on the canvas: float32 [B, 3, S, S]. */
  readonly target: Tensor;
}
