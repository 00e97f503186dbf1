import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, describe } from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import type { Quantisation } from '@detailflow/onnx';
import { convert } from './convert';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { type RecordedFile, recordedSource } from './recorded-files';

/** Goes up when matrices are rounded in another way, so that earlier copies are not used any more. */
const VERSION = 3;

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
 * time. Several processes may do so at once. A model that is stored in few bits already is opened as it is.
 * @throws DetailFlowError as {@link convert}
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
      const digest = await digestOf(file, signal);
      identity.files.push([trees.indexOf(file.tree), file.path, file.size, digest]);
    }
    const key = createHash('sha256').update(JSON.stringify(identity)).digest('hex');
    const folder = path.join(cache === true ? cacheFolder() : cache, 'rounded', key);
    if (!existsSync(folder)) {
      const reading = { families, settings, signal };
      await convert(recorded, folder, { ...reading, dtype, onProgress }).catch((error) => {
        if (!existsSync(folder)) throw error; // else another process has just made it
      });
    }
    // What is said of the original holds for its copy.
    const copy = { ...(await openFamilyModel(folder, { families, signal })), card: opened.card };
    await opened.close();
    return copy;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

const CHUNK = 4 * 2 ** 20;

async function digestOf({ tree, path: file }: RecordedFile, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const source = await tree.open(file);
  try {
    for (let at = 0; at < source.size; at += CHUNK) {
      signal?.throwIfAborted();
      hash.update(await source.read(at, Math.min(CHUNK, source.size - at)));
    }
    return hash.digest('hex');
  } finally {
    await source.close?.();
  }
}
