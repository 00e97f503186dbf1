import { DetailFlowError } from './errors';
import type { ScheduleStep } from './models';

/** The steps of a schedule, with the place where each begins. */
export function scheduleSteps(schedule: readonly number[]): ScheduleStep[] {
  let position = 0;
  return schedule.map((count, index) => {
    const step = { index, steps: schedule.length, position, count };
    position += count;
    return step;
  });
}

/**
 * The step that predicts the token at `position`.
 * @throws DetailFlowError `invalid-argument` when the schedule ends before it
 */
export function stepAt(schedule: readonly number[], position: number): ScheduleStep {
  const step = scheduleSteps(schedule).find(({ position: start, count }) => position < start + count);
  if (step && position >= 0) return step;
  throw new DetailFlowError('invalid-argument', `no step predicts token ${position}`);
}
