import { DetailFlowError } from '@detailflow/core';

/** `train-00003-of-00010.parquet`, with anything in front of the number or behind it. */
const PATTERN = /^(.*?)(\d{1,7})-of-(\d{1,7})(?!\d)/;
const MOST_FILES = 1_000_000;

/**
 * Looks at files whose names say that they are number i of n of a set.
 * @param names without folders
 * @param source for messages
 * @returns how the files that are missing would begin
 * @throws DetailFlowError `format` when a set is there in two divisions, or a file of it twice: their images would count twice
 */
export function missingFiles(names: readonly string[], source: string): string[] {
  const sets = new Map<string, { total: number; digits: readonly number[]; files: Map<number, string> }>();
  const fail = (problem: string) =>
    new DetailFlowError('format', `${problem}: their images would be there twice; remove the older files`, {
      file: source,
    });
  for (const name of names) {
    const [, set, number, total] = PATTERN.exec(name) ?? [];
    if (set === undefined || Number(total) > MOST_FILES) continue;
    const known = sets.get(set) ?? {
      ...{ total: Number(total), digits: [number.length, total.length], files: new Map<number, string>() },
    };
    sets.set(set, known);
    if (known.total !== Number(total)) {
      throw fail(`has files of two divisions, of ${known.total} and of ${Number(total)} (${name})`);
    }
    const other = known.files.get(Number(number));
    if (other !== undefined)
      throw fail(`has two files that are number ${Number(number)} of ${known.total}: ${other} and ${name}`);
    known.files.set(Number(number), name);
  }
  return [...sets].flatMap(
    ([
      set,
      {
        total,
        digits: [first, last],
        files,
      },
    ]) => {
      // Some count from 1.
      const start = files.has(0) || !files.has(total) ? 0 : 1;
      return Array.from({ length: total }, (_, i) => start + i)
        .filter((i) => !files.has(i))
        .map((i) => `${set}${`${i}`.padStart(first, '0')}-of-${`${total}`.padStart(last, '0')}`);
    },
  );
}
