import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import type { SourceUse } from '@detailflow/data';
import type { RunFolder } from './run-folder';

const FILE = 'data.json';

/** Notes what the data set of a run gave and what in it was not used, for the report. */
export async function writeDataUse(folder: RunFolder, use: SourceUse): Promise<void> {
  const text = `${JSON.stringify(use, undefined, 2)}\n`;
  await writeFileAtomically(await folder.place(FILE), (write) => write(new TextEncoder().encode(text)));
}

/** What was noted; undefined when nothing can be read: a report does not depend on it. */
export async function readDataUse(folder: RunFolder): Promise<SourceUse | undefined> {
  try {
    const found = JSON.parse(await readFile(path.join(folder.path, FILE), 'utf8')) as SourceUse;
    return Array.isArray(found.unused) ? found : undefined;
  } catch {
    return undefined;
  }
}
