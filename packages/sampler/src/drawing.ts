import { type Condition, exponentialNoise, type PoolMember, Tensor, type TokenModel } from '@detailflow/core';
import { chooseToken } from './choose-guided-token';
import { checkLogitCount } from './choose-token';
import type { GivenTokens } from './given-tokens';
import type { PlannedStep, SampleStep } from './sample-plan';

/** What one picture of a batch is drawn by, checked and with all defaults. */
export interface DrawingPlan {
  readonly model: TokenModel;
  readonly label: Condition;
  readonly steps: readonly PlannedStep[];
  readonly total: number;
  readonly given: GivenTokens;
  readonly seed: number;
  readonly greedy: boolean;
}

/** One picture of a batch: its tokens so far, and the steps that nobody has taken yet. */
export class Drawing {
  /** With the row without condition where any step is guided. */
  readonly conditions: readonly Condition[];
  member: PoolMember | undefined;
  /** The tokens chosen for the last prediction, row by row. */
  chosen: Int32Array | undefined;
  readonly #plan: DrawingPlan;
  readonly #tokens: Int32Array;
  readonly #noise: Float32Array;
  readonly #row: Float32Array;
  #next = 0;
  /** Steps for whoever reads; a few words each, since they share the tokens. */
  readonly #ready: SampleStep[] = [];
  #end: { readonly error?: unknown } | undefined;
  #wake: () => void = () => {};

  constructor(plan: DrawingPlan) {
    this.#plan = plan;
    const { model, label, steps } = plan;
    const isGuided = steps.some(({ scale }) => scale !== 1);
    this.conditions = isGuided ? [label, model.unconditional(label)] : [label];
    this.#tokens = new Int32Array(model.tokens);
    this.#noise = new Float32Array(model.vocabularySize);
    this.#row = new Float32Array(model.vocabularySize);
  }

  /** Whether nothing is left to draw, or nobody wants it any more. */
  get isOver(): boolean {
    return this.#end !== undefined;
  }

  /** Tokens that the next step predicts. */
  get nextCount(): number {
    return this.#plan.steps[this.#next].count;
  }

  /** Chooses the tokens of a step from the logits of each row. */
  choose(logits: readonly Float32Array[]): void {
    const { model, steps, given, seed, greedy, total } = this.#plan;
    const { position, count, scale, choice, isGiven } = steps[this.#next];
    const size = model.vocabularySize;
    const noiseAt = (place: number) => () =>
      exponentialNoise({ seed, position: place, count: size, out: this.#noise });
    const [own, other] = logits;
    for (const row of logits) checkLogitCount(row, count * size);
    const chosen = new Int32Array(this.conditions.length * count);
    for (let k = 0; k < count; k++) {
      const place = position + k;
      const rowOf = (all: Float32Array) => all.subarray(k * size, (k + 1) * size);
      const token =
        given.at(0, place) ??
        chooseToken({
          ...{ own: rowOf(own), scale, choice, place, row: this.#row },
          other: other && rowOf(other),
          noise: greedy ? undefined : noiseAt(place),
        });
      this.#tokens[place] = token;
      for (let row = 0; row < this.conditions.length; row++) chosen[row * count + k] = token;
    }
    this.chosen = chosen;
    this.#next++;
    const known = position + count;
    if (!isGiven || known === total) this.#ready.push(this.#snapshot(known));
    if (known === total) this.finish();
    else this.#wake();
  }

  /** Ends the drawing; without an error after its last step. */
  finish(end: { readonly error?: unknown } = {}): void {
    this.#end ??= end;
    this.#wake();
  }

  /** The next step, undefined at the end. */
  async take(): Promise<SampleStep | undefined> {
    while (this.#ready.length === 0 || this.#isFailed) {
      if (this.#end && 'error' in this.#end) throw this.#end.error;
      if (this.#end) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#ready.shift();
  }

  get #isFailed(): boolean {
    return this.#end !== undefined && 'error' in this.#end;
  }

  #snapshot(count: number): SampleStep {
    const tokens = this.#tokens; // places that are known do not change any more
    return {
      count,
      total: this.#plan.total,
      tokens: async () => new Tensor('int32', tokens.slice(0, count), [1, count]),
    };
  }
}
