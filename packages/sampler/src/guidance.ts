import {
  DetailFlowError,
  describe,
  type Guidance,
  type ScheduleStep,
  type TokenModel,
} from '@detailflow/core';

/** The same scale at every step. */
export const constantGuidance: Guidance = (_step, cfg) => cfg;

/** The scale up to step `last`, counted from 0; the steps after it are not guided. */
export const guidanceUntil =
  (last: number): Guidance =>
  ({ index }, cfg) =>
    index <= last ? cfg : 1;

/**
 * The guidance of a name among those of a model.
 * @throws DetailFlowError `invalid-argument` naming those that there are
 */
export function namedGuidance(model: Pick<TokenModel, 'guidances'>, name: string): Guidance {
  if (name === 'constant') return constantGuidance;
  const found = Object.entries(model.guidances ?? {}).find(([known]) => known === name);
  if (found) return found[1];
  const names = ['constant', ...Object.keys(model.guidances ?? {})];
  throw new DetailFlowError(
    'invalid-argument',
    `guidance is ${describe(name)}; give a function, or for this model ${names.join(' or ')}`,
  );
}

/**
 * The scale of each step.
 * @throws DetailFlowError `invalid-argument` for one that is not a number
 */
export function guidanceScales(steps: readonly ScheduleStep[], guidance: Guidance, cfg: number): number[] {
  return steps.map((step) => {
    const scale = guidance(step, cfg);
    if (Number.isFinite(scale)) return scale;
    throw new DetailFlowError('invalid-argument', `the guidance gives ${scale} for step ${step.index}`);
  });
}

/** Guided logits of one token, uncond + (cond - uncond) scale, written into `out`. */
export function guide(
  conditional: Float32Array,
  unconditional: Float32Array,
  scale: number,
  out: Float32Array,
): void {
  for (let i = 0; i < out.length; i++)
    out[i] = unconditional[i] + (conditional[i] - unconditional[i]) * scale;
}
