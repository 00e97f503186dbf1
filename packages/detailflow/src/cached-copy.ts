import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import type { FamilyModel } from '@detailflow/checkpoint';
import { FileLock, ioError, syncFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import type { Quantisation } from '@detailflow/onnx';
import { convert } from './convert';
import { fileDigest } from './file-digest';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { type RecordedFile, recordedSource } from './recorded-files';
import { sealFault, sealFolder } from './sealed-folder';

/** Goes up when matrices are rounded in another way or a copy is laid out otherwise, so that earlier ones are not used any more. */
const VERSION = 4;

/** How a rounded copy of a model is kept. */
export interface CachedCopyOptions extends OpenFamilyOptions {
  readonly dtype: Quantisation;
  /** The folder of copies; true: {@link cacheFolder}. */
  readonly cache: true | string;
  /** Told how far the copy is, where one is made. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'bytes' }) => void;
}

/** `DETAILFLOW_CACHE`, else the folder `detailflow` where this system keeps caches of a user. */
function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  if (env.DETAILFLOW_CACHE) return path.resolve(env.DETAILFLOW_CACHE);
  const ofUser = process.platform === 'win32' ? env.LOCALAPPDATA : env.XDG_CACHE_HOME;
  return path.join(ofUser || path.join(homedir(), '.cache'), 'detailflow');
}

/**
 * Opens the rounded copy of a model, which is made where there is none yet: a bundle in the cache under a hash of all that the
 * model's files hold and of what is said of them, so that a copy never stands for other weights. All files are read for that, every
 * time, and those of the copy too: digests beside them say what was written, and a damaged copy is made again, which
 * `hub.onNotice` is told. Of several processes one makes it. A model that is stored in few bits already is opened as it is.
 * @throws DetailFlowError as {@link convert}; `io` when a damaged copy cannot be removed
 */
export async function openCachedCopy(source: ModelSource, options: CachedCopyOptions): Promise<FamilyModel> {
  const { dtype, cache, onProgress, families, settings, hub, signal } = options;
  if (cache === '' || (cache !== true && typeof cache !== 'string')) {
    throw new DetailFlowError('invalid-argument', `cache is ${describe(cache)}; give true or a folder`);
  }
  const seen: RecordedFile[] = [];
  const recorded = await recordedSource(source, seen, { hub, signal });
  const opened = await openFamilyModel(recorded, { families, settings, signal });
  try {
    if (opened.ar && agreedDType(opened.ar.weights, dtype, opened.ar.file) === undefined) return opened;
    const identity = { version: VERSION, dtype, family: opened.family, settings, files: [] as unknown[] };
    const trees = [...new Set(seen.map(({ tree }) => tree))];
    for (const file of seen) {
      const digest = await fileDigest(file.tree, file.path, signal);
      identity.files.push([trees.indexOf(file.tree), file.path, file.size, digest]);
    }
    const key = createHash('sha256').update(JSON.stringify(identity)).digest('hex');
    const folder = path.join(cache === true ? cacheFolder() : cache, 'rounded', key);
    await provide(folder, {
      ...{ signal, onNotice: hub?.onNotice },
      make: async (place, signal) => {
        await convert(recorded, place, { families, settings, signal, dtype, onProgress });
      },
    });
    // What is said of the original holds for its copy.
    const copy = { ...(await openFamilyModel(folder, { families, signal })), card: opened.card };
    await opened.close();
    return copy;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Makes a copy, unless a whole one is there: under a lock, beside its place, sealed, and moved there in one go. */
async function provide(
  folder: string,
  {
    make,
    signal,
    onNotice,
  }: {
    readonly make: (place: string, signal: AbortSignal) => Promise<void>;
    readonly signal?: AbortSignal;
    readonly onNotice?: (message: string) => void;
  },
): Promise<void> {
  const faultOf = async () => (existsSync(folder) ? sealFault(folder, signal) : 'it is not there');
  if ((await faultOf()) === undefined) return;
  const [home, name] = [path.dirname(folder), path.basename(folder)];
  await mkdir(home, { recursive: true }).catch(cannot('be made', home));
  const lock = await FileLock.take(`${folder}.lock`, {
    ...{ signal, onNotice },
    onBusy: ({ process: id }) => onNotice?.(`process ${id} is making the rounded copy, waiting for that`),
    lostMessage: 'another process makes this copy since this one was stopped for long; try again',
  });
  try {
    const fault = await faultOf();
    if (fault === undefined) return;
    if (existsSync(folder)) {
      onNotice?.(`${folder}: the rounded copy is damaged (${fault}); it is made again`);
      await remove(folder, 'be removed, although it is damaged; remove it yourself');
    }
    for (const left of await readdir(home).catch(cannot('be listed', home))) {
      // Of a process that was killed.
      if (left.startsWith(`${name}.making-`) || left.startsWith(`.${name}.making-`))
        await remove(path.join(home, left), 'be removed, although it is half a copy; remove it yourself');
    }
    const aside = `${folder}.making-${randomBytes(6).toString('hex')}`;
    try {
      const both = signal ? AbortSignal.any([signal, lock.lost]) : lock.lost;
      await make(aside, both);
      await sealFolder(aside, both);
      await lock.require();
      await rename(aside, folder).catch(cannot('be moved into place', folder));
      await syncFolder(home).catch(cannot('be forced to disk', home));
    } catch (error) {
      await rm(aside, { recursive: true, force: true });
      if (!DetailFlowError.isInstance(error) || !UNWRITABLE.includes(codeOf(error.cause))) throw error;
      throw new DetailFlowError(
        'io',
        `the rounded copy could not be kept: ${error.message}; make room in ${home}, set DETAILFLOW_CACHE to a folder elsewhere, or go without a cache`,
        { cause: error },
      );
    }
  } finally {
    await lock.release();
  }
}

/** What a disk says that takes no more, or nothing at all. */
const UNWRITABLE: readonly unknown[] = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EACCES', 'EPERM'];

const codeOf = (cause: unknown) => (cause as { code?: unknown } | undefined)?.code;

const cannot = (what: string, file: string) => (cause: unknown) => {
  throw ioError(`cannot ${what}`, file, cause);
};

const remove = (place: string, what: string) =>
  rm(place, { recursive: true, force: true }).catch(cannot(what, place));
