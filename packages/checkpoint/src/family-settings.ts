import { DetailFlowError, describe } from '@detailflow/core';
import type { ConfigObject } from './config-files';

/** Where the settings of one half stand in a configuration, and which names mean the same. */
export interface HalfSettingsRule {
  /** Names under which a configuration may have a section for this half, such as 'vae'. */
  readonly sections: readonly string[];
  /** Names of settings that say the same thing: whoever gives one of them means it instead of all others. */
  readonly same?: readonly (readonly string[])[];
}

/**
 * The settings of one half out of some objects: what stands at the top, and over it what stands in the half's own section.
 * Later objects go before earlier ones.
 */
export function halfSettings(
  objects: readonly (ConfigObject | undefined)[],
  { sections, same = [] }: HalfSettingsRule,
): ConfigObject {
  const merged = new Map<string, unknown>();
  for (const object of objects) {
    if (!object) continue;
    const own = sections.map((name) => object[name]).filter((part) => isObject(part));
    for (const part of [object, ...own]) {
      const given = Object.entries(part).filter(([, value]) => value !== undefined && value !== null);
      for (const [name] of given) {
        for (const other of same.find((names) => names.includes(name)) ?? []) merged.delete(other);
      }
      for (const [name, value] of given) merged.set(name, value);
    }
  }
  return Object.fromEntries(merged);
}

const isObject = (value: unknown): value is ConfigObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Checks settings that weights say as well: a configuration of another model must not pass for this one's.
 * @param known by the name of a setting what the weights say; settings that are not given are not compared
 * @throws DetailFlowError `config` naming the setting
 */
export function requireStated(
  settings: ConfigObject,
  known: Readonly<Record<string, number>>,
  file: string,
): void {
  for (const [name, value] of Object.entries(known)) {
    const stated = settings[name];
    if (stated === undefined || stated === null || stated === value) continue;
    throw new DetailFlowError(
      'config',
      `its settings say ${describe(stated)}, its weights are of ${value}: give the settings of this model`,
      { file, entry: name },
    );
  }
}
