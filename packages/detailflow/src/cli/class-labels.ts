import { closest } from './closest';
import { UsageError } from './command';
import { parseList } from './values';

/** Names that an error message lists. */
const MOST_LISTED = 20;

/**
 * Class numbers of a list such as "3", "3,7", "0-9" or "bag,ankle boot", in its order; the number of classes itself
 * means no class. Names may hold commas, and numbers: "name:7" and "number:7" say which is meant where both are there.
 * @throws UsageError for a class that is not there, or that could be several
 */
export function classLabels(text: string, classes: number, names?: readonly string[]): number[] {
  const parts = text.split(',').map((part) => part.trim());
  const labels: number[] = [];
  for (let at = 0; at < parts.length; ) {
    const { label, length } = longestName(parts.slice(at, at + LONGEST_NAME), classes, names);
    if (label === undefined) labels.push(...numbers(parts[at], classes, names));
    else labels.push(label);
    at += length;
  }
  return labels;
}

/** Parts between commas that a name may have. */
const LONGEST_NAME = 8;

/** The class whose name the most of the first parts spell. */
function longestName(parts: readonly string[], classes: number, names: readonly string[] = []) {
  for (let length = parts.length; length > 0; length--) {
    const label = labelOfName(parts.slice(0, length), classes, names);
    if (label !== undefined) return { label, length };
  }
  return { label: undefined, length: 1 };
}

function labelOfName(
  parts: readonly string[],
  classes: number,
  names: readonly string[],
): number | undefined {
  // Unicode has two ways for letters with marks, and file systems choose one.
  const joined = parts.join(',').normalize();
  const text = joined.replace(/^name:/, '');
  const spelt = (name: string) =>
    name
      .split(',')
      .map((part) => part.trim())
      .join(',')
      .normalize();
  const found = (same: (name: string) => boolean) =>
    names.flatMap((name, i) => (same(spelt(name)) ? [i] : []));
  const exact = found((name) => name === text);
  const all = exact.length > 0 ? exact : found((name) => name.toLowerCase() === text.toLowerCase());
  if (all.length === 0) return undefined;
  if (all.length > 1) {
    throw new UsageError(
      `--class "${text}" is the name of the classes ${all.join(', ')}: give one of the numbers`,
    );
  }
  const [label] = all;
  if (label >= classes) {
    throw new UsageError(
      `--class "${text}" is class ${label} of the card, and the model has ${classes} classes`,
    );
  }
  if (text === joined && /^\d+$/.test(text) && Number(text) !== label) {
    throw new UsageError(
      `--class ${text} is a number, and the name of class ${label}: give number:${text} or name:${text}`,
    );
  }
  return label;
}

function numbers(part: string, classes: number, names?: readonly string[]): number[] {
  const text = part.replace(/^number:/, '');
  if (!/^[\d\s-]+$/.test(text)) throw new UsageError(unknownName(part, classes, names));
  const labels = parseList(text, '--class');
  const wrong = labels.find((label) => label > classes);
  if (wrong === undefined) return labels;
  throw new UsageError(`--class ${wrong}: the classes are 0-${classes - 1}, and ${classes} for none`);
}

function unknownName(name: string, classes: number, names?: readonly string[]): string {
  if (!names) return `--class "${name}": this model has no class names, give numbers 0-${classes - 1}`;
  const parts = names.flatMap((whole) => [whole, ...whole.split(', ')].map((part) => ({ part, whole })));
  const near = closest(
    name,
    parts.map(({ part }) => part),
  );
  const meant = parts.find(({ part }) => part === near)?.whole;
  const between = names.some((one) => one.includes(',')) ? '; ' : ', ';
  const listed =
    names.length > MOST_LISTED
      ? `${names.slice(0, MOST_LISTED).join(between)}${between}... (detailflow inspect lists all ${names.length})`
      : names.join(between);
  return `there is no class "${name}"${meant === undefined ? '' : ` (did you mean "${meant}"?)`}: ${listed}`;
}
