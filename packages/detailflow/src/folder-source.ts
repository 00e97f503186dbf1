import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileTree, type ModelFiles, oneFileTree } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import { modelFolder } from './model-package';

/** A folder or a file of weights: its path, its `file:` URL, any {@link FileTree}, or the name of a package with a model. */
export type FolderSource = string | URL | FileTree;

/** Where a model lies: a folder that holds all of it, a file that does, or a folder or file for each half. */
export type ModelSource = FolderSource | { readonly tokenizer: FolderSource; readonly ar?: FolderSource };

/** Opens what a source names. */
export async function modelFiles(source: ModelSource): Promise<ModelFiles> {
  if (typeof source === 'object' && source !== null && 'tokenizer' in source) {
    const ar = source.ar === undefined ? undefined : await toTree(source.ar);
    return { tokenizer: await toTree(source.tokenizer), ar };
  }
  return { model: await toTree(source) };
}

/** Opens a folder, or a file as a folder of itself, by its path or address. */
export async function toTree(source: FolderSource): Promise<FileTree> {
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
  throw new DetailFlowError('unsupported', 'only file: addresses can be opened here', { file: source.href });
}

async function openPath(place: string): Promise<FileTree> {
  const isFile = await stat(place).then(
    (stats) => stats.isFile(),
    () => false,
  );
  const isWeights = /\.(pt|pth|ckpt|bin|safetensors|safetensors\.index\.json)$/.test(place);
  if (!isFile || !isWeights) return openFolder(place);
  return oneFileTree(await openFolder(path.dirname(place)), path.basename(place));
}
