import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * Paths, sizes and times of all files that paths name, that lie in folders they name, or that indices of several files
 * list: changes when one of them does.
 * What is no path counts by its text.
 */
export async function fileStamp(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(paths.map((one) => stampOf(path.resolve(one), one)));
  return stamps.join('\n');
}

async function stampOf(full: string, given: string): Promise<string> {
  const found = await stat(full).catch(() => undefined);
  if (!found) {
    const index = await stat(full + INDEX).catch(() => undefined);
    return index ? fileStamp([full + INDEX]) : given;
  }
  if (!found.isDirectory()) {
    const stamp = `${full} ${found.size} ${found.mtimeMs}`;
    return full.endsWith(INDEX) ? `${stamp}\n${await fileStamp(await shardsOf(full))}` : stamp;
  }
  const names = (await readdir(full)).sort();
  return fileStamp(names.map((name) => path.join(full, name)));
}

const INDEX = '.index.json';

/** The files that an index lists; none where it cannot be read, which whoever opens it says. */
async function shardsOf(index: string): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await readFile(index, 'utf8'));
    const names = [...new Set(Object.values(map).map(String))].sort();
    return names.map((name) => path.join(path.dirname(index), name));
  } catch {
    return [];
  }
}
