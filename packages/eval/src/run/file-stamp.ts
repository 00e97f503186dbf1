import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * Paths, sizes and times of all files that paths name, or that lie in folders they name: changes when one of them does.
 * What is no path counts by its text.
 */
export async function fileStamp(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(paths.map((one) => stampOf(path.resolve(one), one)));
  return stamps.join('\n');
}

async function stampOf(full: string, given: string): Promise<string> {
  const found = await stat(full).catch(() => undefined);
  if (!found) return given;
  if (!found.isDirectory()) return `${full} ${found.size} ${found.mtimeMs}`;
  const names = (await readdir(full)).sort();
  return fileStamp(names.map((name) => path.join(full, name)));
}
