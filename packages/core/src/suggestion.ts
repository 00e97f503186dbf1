/** `did you mean "seed"?`, for a word that is nearly one of those known. */
export function suggestion(word: string, known: readonly string[]): string | undefined {
  if (word.length > 100) return undefined;
  const typed = word.toLowerCase();
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const other = candidate.toLowerCase();
    const isNear = sharesStart(typed, other);
    if (!isNear && Math.abs(other.length - typed.length) >= least) continue;
    const edits = isNear ? 1 : distance(typed, other);
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best === undefined ? undefined : `did you mean ${JSON.stringify(best)}?`;
}

/** One begins with the other, as "temp" and "temperature" do. */
const sharesStart = (a: string, b: string): boolean =>
  Math.min(a.length, b.length) >= 3 && (a.startsWith(b) || b.startsWith(a));

/** Insertions, deletions, replacements and swaps of neighbours from one word to the other. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + same);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j], rows[i - 2][j - 2] + 1);
    }
    rows.push(row);
  }
  return rows[a.length][b.length];
}
