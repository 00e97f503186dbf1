import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { digestFile } from '@detailflow/checkpoint/node';

/**
 * Content of all files that paths name, or that lie in folders they name: changes when one of them does, whatever its
 * name, size and time. Costs one reading of the files, 1 MiB at a time. What is no path counts by its text.
 * @throws DetailFlowError `io` when a file cannot be read
 */
export async function fileStamp(paths: readonly string[]): Promise<string> {
  const stamps: string[] = [];
  for (const one of paths) stamps.push(...(await stampsOf(path.resolve(one), one, [])));
  return stamps.join('\n');
}

/** Lines of a file, or of a folder, whose entries are called by their place in it. */
async function stampsOf(full: string, name: string, above: readonly string[]): Promise<string[]> {
  const found = await stat(full).catch(() => undefined);
  if (found?.isDirectory()) {
    const real = await realpath(full);
    if (above.includes(real)) return []; // links that go in circles
    const lines: string[] = [];
    for (const entry of (await readdir(full)).sort()) {
      const inside = above.length === 0 ? entry : `${name}/${entry}`;
      lines.push(...(await stampsOf(path.join(full, entry), inside, [...above, real])));
    }
    return lines;
  }
  if (!found?.isFile()) return [name];
  const digest = Buffer.from(await digestFile(full)).toString('hex');
  return [above.length === 0 ? digest : `${name} ${digest}`];
}
