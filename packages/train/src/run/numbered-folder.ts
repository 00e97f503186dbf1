import { mkdir, readdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { ioError } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';

/** A number in a name, `%d`, or with leading zeros to so many digits, `%03d`. */
const NUMBER = /%(?:0([1-9]))?d/;
/** Numbers have at most so many digits. */
const MOST_DIGITS = 9;

/** Whether a folder's name is to be numbered: see {@link numberedFolder}. */
export const isNumbered = (folder: string): boolean => NUMBER.test(folder);

/**
 * A folder whose name has a number: `runs/%03d-emoji` is `runs/000-emoji`, then `runs/001-...`, as the official scripts number theirs. All
 * names that begin alike count, whatever follows the number. Of several processes that ask at once each gets a number of its own.
 * @param options.newest the one with the largest number whose name is this one throughout, where there is one; otherwise a new folder is made
 * @throws DetailFlowError `invalid-argument` for more than one number, or one in the path before the last part; `io`
 */
export async function numberedFolder(
  pattern: string,
  options: { readonly newest: boolean },
): Promise<string> {
  checkOptions('numberedFolder', options, { newest: true });
  const [parent, name] = [path.dirname(pattern), path.basename(pattern)];
  const [found, width = '1'] = NUMBER.exec(name) ?? [];
  if (found === undefined || isNumbered(parent) || isNumbered(name.replace(NUMBER, ''))) {
    throw new DetailFlowError(
      'invalid-argument',
      `${JSON.stringify(pattern)}: give one number, in the last part, such as runs/%03d-emoji`,
    );
  }
  const [before, after] = name.split(found);
  const named = (number: number) =>
    path.join(parent, `${before}${String(number).padStart(Number(width), '0')}${after}`);
  await mkdir(parent, { recursive: true }).catch((cause) => {
    throw ioError('the folder cannot be made', parent, cause);
  });
  const taken = await numbersIn(parent, before);
  if (options.newest) {
    const same = taken.filter(({ rest }) => rest === after);
    const newest = same.reduce<(typeof same)[number] | undefined>(
      (best, one) => (best === undefined || one.number > best.number ? one : best),
      undefined,
    );
    if (newest) return path.join(parent, newest.name);
  }
  const first = Math.max(-1, ...taken.map(({ number }) => number)) + 1;
  for (let number = first; String(number).length <= MOST_DIGITS; number++) {
    // Whoever makes this folder has the number until its own folder is there.
    const claim = path.join(parent, `.${before}${number}.taken`);
    if (!(await isMade(claim))) continue;
    try {
      const now = await numbersIn(parent, before);
      if (now.some((one) => one.number === number)) continue;
      if (await isMade(named(number))) return named(number);
    } finally {
      await rmdir(claim);
    }
  }
  throw new DetailFlowError('limit', `there are more than ${MOST_DIGITS} digits of numbers`, {
    file: parent,
  });
}

/** Makes a folder. @returns whether it was not there */
async function isMade(folder: string): Promise<boolean> {
  try {
    await mkdir(folder);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw ioError('the folder cannot be made', folder, cause);
  }
}

/** What a folder has whose name begins so and goes on with a number. */
async function numbersIn(
  parent: string,
  before: string,
): Promise<{ readonly name: string; readonly number: number; readonly rest: string }[]> {
  const names = await readdir(parent).catch((cause) => {
    throw ioError('the folder cannot be read', parent, cause);
  });
  return names.flatMap((name) => {
    const [, digits, rest] =
      /^(\d+)(.*)$/s.exec(name.startsWith(before) ? name.slice(before.length) : '') ?? [];
    return digits === undefined || digits.length > MOST_DIGITS
      ? []
      : [{ name, number: Number(digits), rest }];
  });
}
