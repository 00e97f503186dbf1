import type { Condition, ScheduleStep, Tensor, TokenChoice, TokenModel } from '@detailflow/core';

/** The state of a sampling run after a step. */
export interface SampleStep {
  /** Tokens known of every image. */
  readonly count: number;
  /** Tokens there will be. */
  readonly total: number;
  /** The tokens so far: int32 [B, count]. */
  tokens(): Promise<Tensor<'int32'>>;
}

/** A step of the model and how its tokens are chosen. */
export interface PlannedStep extends ScheduleStep {
  /** Of the guidance; 1 for none. */
  readonly scale: number;
  readonly choice: TokenChoice;
  /** Whether every token of the step is given, so that there is nothing to show. */
  readonly isGiven: boolean;
}

/** What is to be sampled, checked and with all defaults. */
export interface SamplePlan {
  readonly model: TokenModel;
  readonly conditions: readonly Condition[];
  readonly steps: readonly PlannedStep[];
  /** Always take the most likely token. */
  readonly greedy: boolean;
  /** Whether any step is guided. */
  readonly isGuided: boolean;
  /** Tokens there will be. */
  readonly total: number;
  /** The token that is given for a place of an image instead of being drawn. */
  readonly givenAt: (image: number, place: number) => number | undefined;
  /** Exp(1) draws [V] of a token; valid until the next call. */
  readonly noiseOf: (image: number, place: number) => Float32Array;
  readonly signal?: AbortSignal;
}
