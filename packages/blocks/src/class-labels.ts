import { type Condition, DetailFlowError } from '@detailflow/core';

/**
 * The class numbers of conditions, 0..classes.
 * @throws DetailFlowError `invalid-argument` for a text, for other numbers, and where there are none
 */
export function classLabels(conditions: readonly Condition[], classes: number): number[] {
  const isLabel = (condition: Condition) =>
    typeof condition === 'number' && Number.isInteger(condition) && condition >= 0 && condition <= classes;
  const wrong = conditions.find((condition) => !isLabel(condition));
  if (conditions.length > 0 && wrong === undefined) return conditions as number[];
  const given = conditions.length === 0 ? 'none given' : typeof wrong === 'number' ? wrong : 'a text';
  throw new DetailFlowError('invalid-argument', `labels: ${given}; give class numbers 0..${classes}`);
}
