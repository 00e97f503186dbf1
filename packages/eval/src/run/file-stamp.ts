import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { digestFile } from '@detailflow/checkpoint/node';

/**
 * Content of all files that paths name, that lie in folders they name, or that an index of several files lists: changes when
 * one of them does, whatever its name, size and time. Costs one reading of the files, 1 MiB at a time. What is no path counts by its text.
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
  if (!found?.isFile()) {
    const index = above.length === 0 && (await stat(full + INDEX).catch(() => undefined));
    return index ? stampsOf(full + INDEX, name, above) : [name];
  }
  const digest = Buffer.from(await digestFile(full)).toString('hex');
  if (above.length > 0) return [`${name} ${digest}`];
  if (!full.endsWith(INDEX)) return [digest];
  const folder = path.dirname(full);
  const lines = [digest];
  for (const shard of await shardsOf(full))
    lines.push(...(await stampsOf(path.join(folder, shard), shard, [folder])));
  return lines;
}

const INDEX = '.index.json';

/** The files that an index lists; none where it cannot be read, which whoever opens it says. */
async function shardsOf(index: string): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await readFile(index, 'utf8'));
    const names = [...new Set(Object.values(map).map(String))].sort();
    return names;
  } catch {
    return [];
  }
}
