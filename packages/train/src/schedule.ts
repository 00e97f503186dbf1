/** Learning rates are factors of the full one, by step from 0. */
export interface ScheduleOptions {
  readonly steps: number;
  /** Steps of linear warm-up. */
  readonly warmup: number;
  /** Factor at step 0. */
  readonly initialFactor: number;
  /** Factor at the end. */
  readonly finalFactor: number;
}

/**
 * Linear warm-up, then cosine counted from step 0, as the tokenizer is trained: the factor is the warm-up line while
 * `step` < `warmup`, then final + (1 - final) (1 + cos(pi step / steps)) / 2. Source: docs/method.md section 5.
 */
export function tokenizerSchedule(step: number, options: ScheduleOptions): number {
  if (step < options.warmup) return warmUp(step, options);
  return cosine(step / options.steps, options.finalFactor);
}

/**
 * Linear warm-up from 0.005, then cosine over the remaining steps, as the AR model is trained.
 * Source: docs/method.md section 5.
 */
export function tokenModelSchedule(step: number, options: ScheduleOptions): number {
  const { steps, warmup, finalFactor } = options;
  if (step < warmup) return warmUp(step, options);
  return cosine((step - warmup) / Math.max(1, steps - warmup), finalFactor);
}

const warmUp = (step: number, { warmup, initialFactor }: ScheduleOptions) =>
  initialFactor + ((1 - initialFactor) * step) / warmup;

const cosine = (progress: number, final: number) =>
  final + ((1 - final) * (1 + Math.cos(Math.PI * Math.min(1, progress)))) / 2;
