/**
 * The word that was probably meant: one that begins as the given one does, or differs from it by few letters.
 * Undefined where none is near.
 */
export function closest(given: string, words: readonly string[]): string | undefined {
  const text = given.toLowerCase();
  if (text === '') return undefined;
  const ranked = words
    .map((word) => ({ word, distance: distanceOf(text, word.toLowerCase()) }))
    .filter(({ distance }) => distance !== undefined)
    .sort((a, b) => (a.distance as number) - (b.distance as number));
  return ranked[0]?.word;
}

function distanceOf(text: string, word: string): number | undefined {
  const letters = edits(text.slice(0, LONGEST), word.slice(0, LONGEST));
  if (letters <= Math.max(1, Math.floor(Math.min(text.length, word.length) / 3))) return letters;
  const [short, long] = text.length < word.length ? [text, word] : [word, text];
  return short.length >= 2 && long.startsWith(short) ? long.length - short.length : undefined;
}

/** Longer words are compared by their beginning. */
const LONGEST = 64;

/** Letters to insert, drop, replace or swap with their neighbour (optimal string alignment). */
function edits(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  return rows[a.length][b.length];
}

/** `; did you mean X?`, or nothing. */
export function suggestion(given: string, words: readonly string[], prefix = ''): string {
  const word = closest(given, words);
  return word === undefined ? '' : `; did you mean ${prefix}${word}?`;
}
