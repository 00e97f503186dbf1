import {
  DetailFlowError,
  describe,
  type Guidance,
  scheduleSteps,
  stepAt,
  type TokenChoice,
  type TokenModel,
} from '@detailflow/core';
import { checkChoiceOptions } from './choose-token';
import { guidanceScales, namedGuidance } from './guidance';
import type { PlannedStep } from './sample-plan';

/** What decides how the tokens of each step are chosen. */
export interface StepOptions extends Partial<TokenChoice> {
  readonly model: TokenModel;
  readonly cfg?: number;
  readonly guidance?: string | Guidance;
}

/** The steps up to `total` tokens and how each is chosen, with the model's defaults. */
export function plannedSteps(
  options: StepOptions,
  total: number,
  isGiven: (place: number) => boolean,
): PlannedStep[] {
  const { model } = options;
  const defaults = { temperature: 1, topK: 0, topP: 1, cfg: 1.5, guidance: 'constant', ...model.sampling };
  const wanted: TokenChoice = {
    temperature: options.temperature ?? defaults.temperature,
    topK: options.topK ?? defaults.topK,
    topP: options.topP ?? defaults.topP,
  };
  const { cfg = defaults.cfg, guidance = defaults.guidance } = options;
  checkChoiceOptions(wanted);
  if (!Number.isFinite(cfg) || cfg < 0) {
    throw new DetailFlowError('invalid-argument', `cfg is ${describe(cfg)}; give a number from 0`);
  }
  const steps = scheduleSteps(model.schedule).filter(({ position }) => position < total);
  const rule = typeof guidance === 'function' ? guidance : namedGuidance(model, guidance);
  const scales = guidanceScales(steps, rule, cfg);
  return steps.map((step) => {
    const places = Array.from({ length: step.count }, (_, k) => step.position + k);
    return {
      ...step,
      choice: model.choiceAt?.(step, wanted) ?? wanted,
      scale: scales[step.index],
      isGiven: places.every(isGiven),
    };
  });
}

/** Where a run of `tokens` tokens ends: steps are never cut. */
export function lastPosition(tokens: number, { tokens: all, schedule }: TokenModel): number {
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > all) {
    throw new DetailFlowError('invalid-argument', `tokens is ${describe(tokens)}; give 1 to ${all}`);
  }
  const { position, count } = stepAt(schedule, tokens - 1);
  return position + count;
}
