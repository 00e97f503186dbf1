import { describe } from './describe';
import { DetailFlowError } from './errors';
import { suggestion } from './suggestion';

/** Every key of an options object. The compiler refuses a missing one and one too many. */
export type OptionNames<T> = { readonly [Key in keyof Required<T>]: true };

/**
 * Refuses an options object with a key that nobody would look at: a misspelt option would be ignored otherwise.
 * @param where the call, for messages
 * @throws DetailFlowError `invalid-argument`
 */
export function checkOptions<T extends object>(
  where: string,
  options: T | undefined,
  names: OptionNames<T>,
): void {
  if (
    typeof options !== 'object' ||
    options === null ||
    Array.isArray(options) ||
    ArrayBuffer.isView(options)
  ) {
    throw new DetailFlowError(
      'invalid-argument',
      `the options of ${where} are ${describe(options)}; give an object`,
    );
  }
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(names, name)) continue;
    const known = Object.keys(names);
    const hint = suggestion(name, known) ?? `there are ${known.join(', ')}`;
    throw new DetailFlowError('invalid-argument', `${where} has no option ${describe(name)}; ${hint}`);
  }
}
