import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { type WriteReleasedOptions, writeReleased } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { requireDType } from './open-for-dtype';

/** How a model is opened and written in the layout of its family. */
export interface ReleasedLayoutOptions extends OpenFamilyOptions, Pick<WriteReleasedOptions, 'onProgress'> {}

/**
 * Writes a model in the layout in which its family releases its own: the state dicts with the names, tables and masks that the
 * official programs look for, and a config.json for what these do not say. All of it or nothing; folders on the way are made.
 * @returns the files, by their paths below `out`
 * @throws DetailFlowError as {@link openFamilyModel} and `writeReleased`; `unsupported` for a family without a layout
 */
export async function convertToReleased(
  source: ModelSource,
  out: string,
  options: ReleasedLayoutOptions = {},
): Promise<string[]> {
  checkOptions('convertToReleased', options, {
    ...{ families: true, settings: true, hub: true, signal: true, onProgress: true },
  });
  const { onProgress, ...opening } = options;
  const opened = await openFamilyModel(source, opening);
  try {
    requireDType(opened, 'fp32');
    const files = opened.releasedFiles?.();
    if (!files) {
      throw new DetailFlowError(
        'unsupported',
        `this model of ${opened.family} has no released layout; convert it to a bundle`,
        { file: opened.tokenizer.file },
      );
    }
    await mkdir(path.dirname(path.resolve(out)), { recursive: true });
    await writeReleased(out, files, { signal: options.signal, onProgress });
    return files.map((file) => file.path);
  } finally {
    await opened.close();
  }
}
