/** Names of classes by number; undefined where nobody gave any. */
type Names = readonly string[] | undefined;

/** Numbers are no names. */
const areNames = (names: Names): names is readonly string[] =>
  names !== undefined && !names.every((name, label) => name === `${label}`);

/**
 * Why figures by the numbers of classes say nothing: the first number that means one class on one side and another on the other.
 * @returns undefined where the names agree, or are not known of both
 */
export function differentClass(
  one: { readonly of: string; readonly names: Names },
  other: { readonly of: string; readonly names: Names },
): string | undefined {
  const [names, others] = [one.names, other.names];
  if (!areNames(names) || !areNames(others)) return undefined;
  const label = names.findIndex((name, i) => i < others.length && name.normalize() !== others[i].normalize());
  if (label < 0) return undefined;
  return `class ${label} is "${names[label]}" of ${one.of} and "${others[label]}" of ${other.of}`;
}
