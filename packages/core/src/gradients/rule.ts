import type { Value } from '../graph';
import type { Attributes } from '../op';

/** One use of an operation, and the gradient of the loss with respect to its result. */
export interface Usage {
  readonly inputs: readonly Value[];
  readonly output: Value;
  readonly attrs: Attributes;
  /** Same shape as `output`. */
  readonly upstream: Value;
}

/** Gradients with respect to the inputs, in order; undefined where there is none (integers, conditions). */
export type GradientRule = (usage: Usage) => readonly (Value | undefined)[];
