import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DetailFlowError } from '@detailflow/core';
import { ioError } from './node-files';

/**
 * Writes a file, all of it or nothing: it is written beside the target, forced to disk, and moved into place. Whatever
 * fails before that, an earlier file stays as it was.
 * @param fill writes the bytes, part by part
 * @throws DetailFlowError `io` (disk full, ...), and what `fill` throws
 */
export async function writeFileAtomically(
  path: string,
  fill: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const fresh = join(dirname(path), `.${basename(path)}.new-${randomBytes(6).toString('hex')}`);
  try {
    await writeSynced(fresh, fill);
    await rename(fresh, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(fresh, { force: true });
    if (DetailFlowError.isInstance(error)) throw error;
    throw ioError('cannot be written', path, error);
  }
}

/** Writes a new file and forces it to disk. */
export async function writeSynced(
  path: string,
  fill: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const handle: FileHandle = await open(path, 'wx');
  try {
    await fill(async (bytes) => {
      for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Forces a folder's entries to disk, where the system can. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
