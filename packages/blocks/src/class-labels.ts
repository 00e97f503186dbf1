import { type Condition, DetailFlowError, describe } from '@detailflow/core';

/**
 * The class numbers of conditions, 0..classes.
 * @throws DetailFlowError `invalid-argument` for a text, for other numbers, and where there are none
 */
export function classLabels(conditions: readonly Condition[], classes: number): number[] {
  if (!Array.isArray(conditions)) {
    throw new DetailFlowError('invalid-argument', `labels are ${describe(conditions)}; give a list`);
  }
  const isLabel = (condition: Condition) =>
    typeof condition === 'number' && Number.isInteger(condition) && condition >= 0 && condition <= classes;
  const at = conditions.findIndex((condition) => !isLabel(condition)); // what is wrong may be undefined
  if (conditions.length > 0 && at < 0) return conditions as number[];
  const wrong: Condition | undefined = conditions[at];
  const isText = typeof wrong !== 'number' && wrong !== undefined;
  const given = conditions.length === 0 ? 'none given' : isText ? 'a text' : describe(wrong);
  throw new DetailFlowError('invalid-argument', `labels: ${given}; give class numbers 0..${classes}`);
}
