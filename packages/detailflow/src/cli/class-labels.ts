import { UsageError } from './command';
import { parseList } from './values';

/** Class numbers of "3", "3,7", "0-9", or of a name that the bundle's card lists. */
export function classLabels(text: string, classes: number, names?: readonly string[]): number[] {
  const named = names?.findIndex((name) => name.toLowerCase() === text.trim().toLowerCase()) ?? -1;
  if (named >= 0) return [named];
  if (!/^[\d\s,-]+$/.test(text)) {
    throw new UsageError(
      names
        ? `there is no class "${text}": ${names.join(', ')}`
        : `--class "${text}": this model has no class names, give numbers 0-${classes - 1}`,
    );
  }
  const labels = parseList(text, '--class');
  const wrong = labels.find((label) => label > classes);
  if (wrong !== undefined)
    throw new UsageError(`--class ${wrong}: the classes are 0-${classes - 1}, and ${classes} for none`);
  return labels;
}
