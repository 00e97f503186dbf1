/** The first key that one object of a JSON text has twice, of which JSON.parse would keep the last. */
export function duplicateKey(text: string): string | undefined {
  /** Keys of the open objects; undefined for an open list. */
  const open: (Set<string> | undefined)[] = [];
  const strings = /"(?:[^"\\]|\\.)*"|[[\]{}]/gs;
  for (let match = strings.exec(text); match; match = strings.exec(text)) {
    const [part] = match;
    if (part === '{') open.push(new Set());
    else if (part === '[') open.push(undefined);
    else if (part === '}' || part === ']') open.pop();
    else {
      const keys = open[open.length - 1];
      if (!keys || !/^\s*:/.test(text.slice(strings.lastIndex, strings.lastIndex + 1000))) continue;
      const key = part.includes('\\') ? (JSON.parse(part) as string) : part.slice(1, -1);
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
