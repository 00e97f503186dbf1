import { DetailFlowError } from '@detailflow/core';

/**
 * Whether a path fits one of the patterns, as Python's `allow_patterns` (fnmatch): `*` is anything, `/` included, `?` one
 * character, `[abc]` one of them; a pattern that ends with `/` means all below.
 * @throws DetailFlowError `invalid-argument` for a pattern of more than 1000 characters
 */
export function matchesPattern(path: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    if (pattern.length > 1000)
      throw new DetailFlowError('invalid-argument', 'a pattern has more than 1000 characters');
    return fits(path, pattern.endsWith('/') ? `${pattern}*` : pattern);
  });
}

/** Goes back to the last star only, so that no pattern takes long. */
function fits(text: string, pattern: string): boolean {
  let [at, place, star, mark] = [0, 0, -1, 0];
  while (at < text.length) {
    const token = pattern[place] === '[' ? classAt(pattern, place) : undefined;
    if (pattern[place] === '*') {
      star = place++;
      mark = at;
    } else if (token ? token.fits(text[at]) : pattern[place] === '?' || pattern[place] === text[at]) {
      place += token?.length ?? 1;
      at++;
    } else if (star >= 0) {
      place = star + 1;
      at = ++mark;
    } else return false;
  }
  while (pattern[place] === '*') place++;
  return place === pattern.length;
}

function classAt(pattern: string, at: number): { length: number; fits(char: string): boolean } | undefined {
  const isNegated = pattern[at + 1] === '!';
  const first = at + (isNegated ? 2 : 1);
  const end = pattern.indexOf(']', first + 1);
  if (end < 0) return undefined;
  const body = pattern.slice(first, end);
  return {
    length: end + 1 - at,
    fits(char) {
      let found = false;
      for (let i = 0; i < body.length; i++) {
        const isRange = body[i + 1] === '-' && i + 2 < body.length;
        found ||= isRange ? body[i] <= char && char <= body[i + 2] : body[i] === char;
        if (isRange) i += 2;
      }
      return found !== isNegated;
    },
  };
}
