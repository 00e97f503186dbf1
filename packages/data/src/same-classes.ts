import { DetailFlowError } from '@detailflow/core';

/**
 * A class that only one part has would be measured without being learned, or learned without being measured.
 * @param parts their names, for the message
 * @throws DetailFlowError `format` naming up to five classes of each
 */
export function requireSameClasses(
  train: readonly string[],
  test: readonly string[],
  file: string,
  parts: readonly [string, string] = ['train', 'the test part'],
): void {
  const missing = (one: readonly string[], other: readonly string[]) => {
    const known = new Set(other);
    return one.filter((name) => !known.has(name)).slice(0, 5);
  };
  const said = [missing(train, test), missing(test, train)].flatMap((names, i) =>
    names.length > 0 ? [`only ${parts[i]} has ${names.join(', ')}`] : [],
  );
  if (said.length === 0) return;
  throw new DetailFlowError(
    'format',
    `${parts.join(' and ')} must have the same classes; ${said.join('; ')}`,
    {
      file,
    },
  );
}
