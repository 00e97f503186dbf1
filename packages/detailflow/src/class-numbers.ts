import { type Condition, DetailFlowError, describe, suggestion } from '@detailflow/core';

/** What a picture is drawn for: the number of a class, its name on the model's card, or a text. */
export type ClassLabel = Condition | string;

/**
 * Numbers of classes that are given by number or by name (case does not matter); texts stay.
 * @throws DetailFlowError `invalid-argument` for a name that no class or more than one has
 */
export function classNumbers(
  labels: readonly ClassLabel[],
  names: readonly string[] | undefined,
): Condition[] {
  if (!Array.isArray(labels)) {
    throw new DetailFlowError(
      'invalid-argument',
      `labels are ${describe(labels)}; give a list with the number or name of a class for each image`,
    );
  }
  return labels.map((label: ClassLabel) => (typeof label === 'string' ? numberOf(label, names) : label));
}

function numberOf(label: string, names: readonly string[] | undefined): number {
  if (!names) {
    throw new DetailFlowError(
      'invalid-argument',
      `labels: ${describe(label)}; this model has no class names, give numbers`,
    );
  }
  const wanted = plainName(label);
  const found = [...names.keys()].filter((i) => plainName(names[i]) === wanted);
  if (found.length === 1) return found[0];
  const problem =
    found.length > 1
      ? `is the name of the classes ${found.slice(0, 8).join(', ')}; give one of the numbers`
      : `is the name of no class; ${suggestion(wanted, names) ?? `there are ${listed(names)}`}`;
  throw new DetailFlowError('invalid-argument', `labels: ${describe(label)} ${problem}`);
}

/** However it is written: Unicode has two ways for letters with marks, and file systems choose one. */
const plainName = (name: string): string => name.normalize().trim().toLowerCase();

const SHOWN = 20;
const listed = (names: readonly string[]): string =>
  names.length <= SHOWN
    ? names.join(', ')
    : `${names.slice(0, SHOWN).join(', ')} and ${names.length - SHOWN} more`;
