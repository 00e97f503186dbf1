import { describe } from './describe';
import { DetailFlowError } from './errors';
import { suggestion } from './suggestion';

/** Every key of an options object. The compiler refuses a missing one and one too many. */
export type OptionNames<T> = { readonly [Key in keyof Required<T>]: true };

/**
 * Refuses an options object with a key that nobody would look at: a misspelt option would be ignored otherwise. An option
 * `signal` must be an AbortSignal.
 * @param where the call, for messages
 * @throws DetailFlowError `invalid-argument`
 */
export function checkOptions<T extends object>(
  where: string,
  options: T | undefined,
  names: OptionNames<T>,
): void {
  const refuse = (what: string) => new DetailFlowError('invalid-argument', what);
  if (typeof options !== 'object' || !options || Array.isArray(options) || ArrayBuffer.isView(options)) {
    throw refuse(`the options of ${where} are ${describe(options)}; give an object`);
  }
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(names, name)) continue;
    const known = Object.keys(names);
    const hint = suggestion(name, known) ?? `there are ${known.join(', ')}`;
    throw refuse(`${where} has no option ${describe(name)}; ${hint}`);
  }
  const { signal } = options as { readonly signal?: AbortSignal };
  if (signal && !signal.throwIfAborted) {
    throw refuse(`the signal of ${where} is ${describe(signal)}; give an AbortSignal`);
  }
}
