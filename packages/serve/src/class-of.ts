import { suggestion } from '@detailflow/core';
import { badField } from './api-error';

const SHOWN = 20;

/**
 * The number of a class that is given by number or by name (case does not matter); as many as there are classes means none.
 * @throws ApiError 400 naming the field
 */
export function classOf(
  given: string | number,
  { classes, names, field }: { classes: number; names: readonly string[] | undefined; field: string },
): number {
  if (typeof given === 'number') return requireClass(given, classes, field);
  const wanted = plainName(given);
  const found = [...(names ?? []).keys()].filter((i) => plainName(names?.[i] ?? '') === wanted);
  if (found.length === 1) return requireClass(found[0], classes, field);
  if (found.length > 1) {
    throw badField(
      field,
      `${field} is the name of the classes ${found.slice(0, 8).join(', ')}; give "class": a number`,
    );
  }
  if (/^\d{1,9}$/.test(wanted)) return requireClass(Number(wanted), classes, field);
  if (!names)
    throw badField(field, `${field}: this model has no class names; give a number, 0 to ${classes - 1}`);
  const listed =
    names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '');
  throw badField(
    field,
    `${field} is the name of no class; ${suggestion(wanted, names) ?? `there are ${listed}`}`,
  );
}

/** However it is written: Unicode has two ways for letters with marks, and file systems choose one. */
const plainName = (name: string): string => name.normalize().trim().toLowerCase();

function requireClass(label: number, classes: number, field: string): number {
  if (label <= classes) return label;
  throw badField(field, `${field} is ${label}; the classes are 0 to ${classes - 1}, and ${classes} for none`);
}
