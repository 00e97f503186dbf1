import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Family } from '@detailflow/checkpoint';
import { ioError } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import { type Options, UsageError } from './command';
import type { Values } from './values';

export const familyModuleOption: Options = {
  'family-module': {
    type: 'string',
    value: 'FILE',
    help: 'an ES module (.js, .mjs) that exports families, asked first; it runs as a program of yours',
  },
};

/**
 * The families that the module of --family-module exports; undefined where there is none. Its code runs: nothing but this option
 * names one, no file of a model does.
 * @throws UsageError for a file of another kind; DetailFlowError `io` where it cannot be read, `format` where it does not load,
 * or exports anything but families
 */
export async function familiesOf(values: Values): Promise<readonly Family[] | undefined> {
  const file = values.text('family-module');
  if (file === undefined) return undefined;
  if (!/\.m?js$/.test(file)) throw new UsageError(`--family-module "${file}": give a .js or .mjs file`);
  await requireFile(file);
  const exported = Object.entries(await loaded(file));
  if (exported.length === 0)
    throw new DetailFlowError('format', 'exports nothing; give a module whose exports are families', {
      file,
    });
  for (const [name, value] of exported) requireFamily(value, { file, entry: name });
  return [...new Set(exported.map(([, value]) => value as Family))];
}

async function requireFile(file: string): Promise<void> {
  const found = await stat(file).catch((cause) => {
    throw ioError('cannot be read', file, cause);
  });
  if (!found.isFile()) throw new DetailFlowError('io', 'is no file', { file });
}

async function loaded(file: string): Promise<object> {
  try {
    return await import(pathToFileURL(path.resolve(file)).href);
  } catch (cause) {
    const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    throw new DetailFlowError('format', `does not load as an ES module (${reason})`, { file, cause });
  }
}

function requireFamily(value: unknown, place: { readonly file: string; readonly entry: string }): void {
  const parts = (typeof value === 'object' && value !== null ? value : {}) as Partial<Family>;
  const wrong =
    typeof parts.name !== 'string' || parts.name === ''
      ? 'name'
      : (['recognise', 'open'] as const).find((name) => typeof parts[name] !== 'function');
  if (wrong === undefined) return;
  throw new DetailFlowError(
    'format',
    `is ${describe(value)}, and no family: its "${wrong}" is missing. Export nothing but { name, recognise, open }`,
    place,
  );
}
