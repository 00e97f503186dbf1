import type { Family } from '@detailflow/checkpoint';
import { DetailFlowError, describe } from '@detailflow/core';
import type { Options } from './command';
import { importOwnModule } from './own-module';
import type { Values } from './values';

export const familyModuleOption: Options = {
  'family-module': {
    type: 'string',
    value: 'FILE',
    help: 'an ES module (.js, .mjs) that exports families, asked first; it runs as a program of yours',
  },
};

/**
 * The families that the module of --family-module exports; undefined where there is none.
 * @throws UsageError for a file of another kind; DetailFlowError `io` where it cannot be read, `format` where it does not load,
 * or exports anything but families
 */
export async function familiesOf(values: Values): Promise<readonly Family[] | undefined> {
  const file = values.text('family-module');
  if (file === undefined) return undefined;
  const exported = Object.entries(await importOwnModule(file, '--family-module'));
  if (exported.length === 0)
    throw new DetailFlowError('format', 'exports nothing; give a module whose exports are families', {
      file,
    });
  for (const [name, value] of exported) requireFamily(value, { file, entry: name });
  return [...new Set(exported.map(([, value]) => value as Family))];
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
