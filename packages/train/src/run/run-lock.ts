import path from 'node:path';
import { FileLock, type LockOptions } from '@detailflow/checkpoint/node';

/**
 * Keeps a folder for one run, by a file lock.json in it: see {@link FileLock}.
 * @throws DetailFlowError `io` when another run has the folder, or it cannot be written to
 */
export function takeRunLock(folder: string, options: LockOptions = {}): Promise<FileLock> {
  return FileLock.take(path.join(folder, 'lock.json'), {
    ...options,
    busyMessage: ({ host, process: id }) =>
      `another run is at work in this folder (host ${host}, process ${id}); wait for it, stop it, or choose another folder`,
    lostMessage:
      'another run has taken this folder while this one was stopped, or its lock was removed; this one ends, and what it had not saved is made again by the other',
  });
}
