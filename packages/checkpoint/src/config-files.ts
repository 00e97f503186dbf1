import { DetailFlowError, fileLimits } from '@detailflow/core';
import type { Document } from 'yaml';
import { type FileTree, readText } from './file-tree';

/** A configuration as it stands in its file: keys and plain values. Each model checks its own. */
export type ConfigObject = Readonly<Record<string, unknown>>;

/** Configurations beyond this are refused. */
export const maxConfigBytes = fileLimits.config.jsonBytes;
const {
  yamlBytes: maxYamlBytes,
  depth: maxDepth,
  values: maxValues,
  aliases: maxAliases,
} = fileLimits.config;

/**
 * Reads a JSON file that holds one object.
 * @throws DetailFlowError `format`, `limit` (1 MB, 32 levels), `io`
 */
export async function readJsonConfig(tree: FileTree, path: string): Promise<ConfigObject> {
  const text = await readText(tree, path, maxConfigBytes);
  const file = `${tree.name}/${path}`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DetailFlowError('format', `it is not JSON: ${message(cause)}`, { file, cause });
  }
  return configObject(value, file);
}

/**
 * Reads a YAML 1.2 file that holds one mapping: `1e-4` is a number, an empty value is null. Duplicate keys and
 * tags of other types are refused, aliases limited.
 * @throws DetailFlowError `format`, `limit` (100 kB, 32 levels), `io`
 */
export async function readYamlConfig(tree: FileTree, path: string): Promise<ConfigObject> {
  const [text, yaml] = await Promise.all([readText(tree, path, maxYamlBytes), import('yaml')]); // most models have none
  const file = `${tree.name}/${path}`;
  let value: unknown;
  try {
    // Pretty errors and the own search for duplicate keys take quadratic time.
    const quick = { prettyErrors: false, uniqueKeys: false } as const;
    const document = yaml.parseDocument(text, { version: '1.2', schema: 'core', stringKeys: true, ...quick });
    const fault = document.errors[0] ?? document.warnings[0];
    if (fault !== undefined) throw new Error(`${fault.message} at ${place(text, fault.pos[0])}`);
    refuseDuplicates(yaml, document, text);
    value = document.toJS({ maxAliasCount: maxAliases });
  } catch (cause) {
    throw new DetailFlowError('format', `it is not plain YAML: ${message(cause)}`, { file, cause });
  }
  return configObject(value, file);
}

/** Checks that a value is an object of bounded depth and size. */
export function configObject(value: unknown, file: string, entry?: string): ConfigObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new DetailFlowError('format', 'it must hold one object of keys and values', { file, entry });
  }
  let values = 0;
  const check = (item: unknown, depth: number) => {
    if (depth > maxDepth || ++values > maxValues) {
      throw new DetailFlowError(
        'limit',
        `more than ${maxDepth} levels or ${maxValues} values in a configuration`,
        {
          file,
          entry,
        },
      );
    }
    if (typeof item === 'object' && item !== null)
      for (const part of Object.values(item)) check(part, depth + 1);
  };
  check(value, 0);
  return value as ConfigObject;
}

function refuseDuplicates(
  { visit, isScalar }: typeof import('yaml'),
  document: Document,
  text: string,
): void {
  visit(document, {
    Map(_, map) {
      const keys = new Set<unknown>();
      for (const { key } of map.items) {
        const name = isScalar(key) ? key.value : key;
        if (!keys.has(name)) keys.add(name);
        else
          throw new Error(
            `Map keys must be unique at ${place(text, (isScalar(key) && key.range?.[0]) || 0)}`,
          );
      }
    },
  });
}

function place(text: string, at: number): string {
  const before = text.slice(0, at).split('\n');
  return `line ${before.length}, column ${before[before.length - 1].length + 1}`;
}

function message(cause: unknown): string {
  return cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
}
