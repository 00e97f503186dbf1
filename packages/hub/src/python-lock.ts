import { readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

const LONGEST = 60 * 60 * 1000;

/**
 * Waits until no program holds Python's lock of a blob (`flock`), where the system shows who does (Linux). It saves a
 * second transfer and no more: whatever Python does meanwhile, blobs appear whole and under the name of their hash.
 */
export async function waitForPython(
  lock: string,
  { signal, onNotice }: { readonly signal?: AbortSignal; readonly onNotice?: (message: string) => void },
): Promise<void> {
  const until = performance.now() + LONGEST;
  for (let told = false; performance.now() < until && (await isLocked(lock)); told = true) {
    if (!told) onNotice?.(`${lock}: another program is fetching it, waiting for that`);
    await delay(200, undefined, { signal });
  }
}

async function isLocked(file: string): Promise<boolean> {
  const inode = await stat(file).then(
    ({ ino }) => ino,
    () => undefined,
  );
  const table = inode === undefined ? '' : await readFile('/proc/locks', 'utf8').catch(() => '');
  return table.split('\n').some((line) => /\bFLOCK\b.*\bWRITE\b/.test(line) && line.includes(`:${inode} `));
}
