import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ioError } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { UsageError } from './command';

/**
 * What an ES module of the user exports. Its code runs: nothing but an option of the command names one, no file of a model does.
 * @param option that names it
 * @throws UsageError for a file of another kind; DetailFlowError `io` where it cannot be read, `format` where it does not load
 */
export async function importOwnModule(file: string, option: string): Promise<object> {
  if (!/\.m?js$/.test(file)) throw new UsageError(`${option} "${file}": give a .js or .mjs file`);
  const found = await stat(file).catch((cause) => {
    throw ioError('cannot be read', file, cause);
  });
  if (!found.isFile()) throw new DetailFlowError('io', 'is no file', { file });
  try {
    return await import(pathToFileURL(path.resolve(file)).href);
  } catch (cause) {
    const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    throw new DetailFlowError('format', `does not load as an ES module (${reason})`, { file, cause });
  }
}
