import type { Tensor, TokenModel } from '@detailflow/core';
import type { ChoiceOptions } from './choose-token';
import type { GuidanceOptions } from './guidance';

/** The state of a sampling run after a token or a group. */
export interface SampleStep {
  /** Tokens known of every image. */
  readonly count: number;
  /** Tokens there will be. */
  readonly total: number;
  /** The tokens so far: int32 [B, count]. */
  tokens(): Promise<Tensor<'int32'>>;
}

/** What is to be sampled, checked and with all defaults. */
export interface SamplePlan {
  readonly model: TokenModel;
  readonly labels: readonly number[];
  readonly choice: ChoiceOptions;
  readonly guidance: GuidanceOptions;
  readonly greedy: boolean;
  /** Tokens there will be, and those that are given: int32 [B, given]. */
  readonly total: number;
  readonly given: number;
  readonly prefix?: Tensor<'int32'>;
  /** Exp(1) draws [V] of a token; valid until the next call. */
  readonly noiseOf: (image: number, place: number) => Float32Array;
  readonly signal?: AbortSignal;
}
