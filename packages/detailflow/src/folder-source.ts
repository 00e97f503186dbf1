import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileTree, type ModelFiles, oneFileTree } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import {
  isRemote,
  type OneRemoteFile,
  type OpenHubOptions,
  openRemote,
  openRemoteFile,
  remotePath,
} from '@detailflow/hub/node';
import { modelFolder } from './model-package';
import { releasedModel } from './released-models';
import { isWeightsPath } from './weights-path';

export interface SourceOptions {
  readonly signal?: AbortSignal;
  /** How files of the hub are fetched and kept. */
  readonly hub?: OpenHubOptions;
}

/**
 * A folder or a file of weights: its path, its `file:` URL, any {@link FileTree}, the name of a package that holds a model, an
 * address on the hub (`hf:org/name[@revision][/path]`) or on a web server (`https://`).
 */
export type FolderSource = string | URL | FileTree;

/**
 * Where a model lies: a folder that holds all of it, a file that does, or a folder or file for each half. A text may also be
 * the name of a released model.
 */
export type ModelSource = FolderSource | { readonly tokenizer: FolderSource; readonly ar?: FolderSource };

/** Opens what a source names. */
export async function modelFiles(source: ModelSource, options: SourceOptions = {}): Promise<ModelFiles> {
  const released = typeof source === 'string' ? releasedModel(source) : undefined;
  if (released) return modelFiles({ tokenizer: released.tokenizer, ar: released.ar }, options);
  if (typeof source === 'object' && source !== null && 'tokenizer' in source) {
    const ar = source.ar === undefined ? undefined : await toTree(source.ar, options);
    return { tokenizer: await toTree(source.tokenizer, options), ar };
  }
  return { model: await toTree(source, options) };
}

/** Opens a folder, or a file as a folder of itself, by its path or address. */
export async function toTree(source: FolderSource, options: SourceOptions = {}): Promise<FileTree> {
  const remote = source instanceof URL ? source.href : source;
  if (typeof remote === 'string' && isRemote(remote)) {
    const hub = { signal: options.signal, ...options.hub };
    const one = await remoteWeights(remote, hub);
    return one ? oneFileTree(one.tree, one.name) : openRemote(remote, hub);
  }
  if (typeof source === 'string') {
    const found = modelFolder(source);
    if (found !== undefined) return openPath(found);
    throw new DetailFlowError(
      'io',
      `is no folder, and no package with a model is installed by that name: npm install ${source}`,
      { file: source },
    );
  }
  if (!(source instanceof URL)) {
    if (typeof source === 'object' && source !== null && typeof source.open === 'function') return source;
    throw new DetailFlowError(
      'invalid-argument',
      `the model is ${describe(source)}; give a folder, a package, or { tokenizer, ar }`,
    );
  }
  if (source.protocol === 'file:') return openPath(fileURLToPath(source));
  throw new DetailFlowError('unsupported', 'only file:, https: and hf: addresses can be opened', {
    file: source.href,
  });
}

/** The file of weights that an address names by its ending, in its folder; undefined for other addresses. */
export async function remoteWeights(
  address: string,
  options: OpenHubOptions,
): Promise<OneRemoteFile | undefined> {
  return isWeightsPath(remotePath(address)) ? openRemoteFile(address, options) : undefined;
}

async function openPath(place: string): Promise<FileTree> {
  const isFile = await stat(place).then(
    (stats) => stats.isFile(),
    () => false,
  );
  if (!isFile || !isWeightsPath(place)) return openFolder(place);
  return oneFileTree(await openFolder(path.dirname(place)), path.basename(place));
}
