import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { checkOptions, DetailFlowError, type Weights } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { syncFolder, writeSynced } from './atomic-file';
import { configObject, maxConfigBytes } from './config-files';
import type { ReleasedFile } from './family';
import { ioError } from './node-files';
import { writeTorchCheckpoint } from './write-torch';

/** How a model is written in its released layout. */
export interface WriteReleasedOptions {
  readonly signal?: AbortSignal;
  /** Called after every file. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'files' }) => void;
}

/**
 * Writes files as a family releases them into a new folder, all of them or none; folders on the way are not made.
 * @throws DetailFlowError `io` (something lies there already), `dtype`, `limit`; the signal's reason when aborted
 */
export async function writeReleased(
  path: string,
  files: readonly ReleasedFile[],
  options: WriteReleasedOptions = {},
): Promise<void> {
  checkOptions('writeReleased', options, { signal: true, onProgress: true });
  const { signal, onProgress } = options;
  const target = resolve(path);
  await refuseTaken(target, path);
  const fresh = join(dirname(target), `.${basename(target)}.new-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(fresh);
    for (const [done, file] of files.entries()) {
      signal?.throwIfAborted();
      onProgress?.({ done, total: files.length, unit: 'files' });
      await mkdir(dirname(join(fresh, file.path)), { recursive: true });
      await writeFile(join(fresh, file.path), file);
    }
    signal?.throwIfAborted();
    await refuseTaken(target, path);
    await rename(fresh, target);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    if (DetailFlowError.isInstance(error) || error === signal?.reason) throw error;
    throw ioError('the files could not be written', path, error);
  }
  await syncFolder(dirname(target));
}

async function refuseTaken(target: string, path: string): Promise<void> {
  const isTaken = await stat(target).then(
    () => true,
    () => false,
  );
  if (isTaken) throw new DetailFlowError('io', 'it exists already; choose another path', { file: path });
}

async function writeFile(path: string, file: ReleasedFile): Promise<void> {
  if ('torch' in file) return writeTorchCheckpoint(path, file.torch);
  if ('safetensors' in file) return writeSafetensors(path, file.safetensors);
  const text = `${JSON.stringify(configObject(file.json, file.path), undefined, 2)}\n`;
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > maxConfigBytes) {
    throw new DetailFlowError(
      'limit',
      `would take ${bytes.length} bytes; at most ${maxConfigBytes} are read`,
      {
        file: file.path,
      },
    );
  }
  await writeSynced(path, (write) => write(bytes));
}

async function writeSafetensors(path: string, weights: Weights): Promise<void> {
  const { header, tensors } = encodeSafetensors(weights.values(), { format: 'pt' });
  await writeSynced(path, async (write) => {
    await write(header);
    for (const { entry } of tensors) await write(await entry.read());
  });
}
