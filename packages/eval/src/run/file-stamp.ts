import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * Paths, sizes and times of all files that paths name, or that lie in folders they name: changes when one of them does.
 * Links are followed, but not back to a folder that they lie in. What is no path counts by its text.
 */
export async function fileStamp(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(paths.map((one) => stampOf(path.resolve(one), one, new Set())));
  return stamps.join('\n');
}

/** @param above real paths of the folders that it lies in */
async function stampOf(full: string, given: string, above: ReadonlySet<string>): Promise<string> {
  const found = await stat(full).catch(() => undefined);
  if (!found) return given;
  if (!found.isDirectory()) return `${full} ${found.size} ${found.mtimeMs}`;
  const real = await realpath(full);
  if (above.has(real)) return `${full} leads back`;
  const here = new Set(above).add(real);
  const names = (await readdir(full)).sort();
  const inside = names.map((name) => path.join(full, name)).map((one) => stampOf(one, one, here));
  return (await Promise.all(inside)).join('\n');
}
