import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { fileStamp } from '@detailflow/eval/node';
import { isRemote } from '@detailflow/hub/node';
import type { Json } from '@detailflow/queue';
import { isDetailFlow } from '../../detailflow-family';
import { releasedModel } from '../../released-models';
import type { Invocation } from '../command';
import { namedFolder } from '../model-options';
import { modelSettings } from '../model-settings';
import type { Values } from '../values';

/** Options that name files, by which workers find them, too. */
const NAMES = ['model', 'tokenizer', 'ar', 'features'] as const;

/** By option, a digest of all content that it names. */
export type Stamps = Readonly<Record<string, string>>;

/** Content of what options name, each with its digest. Costs one reading of all of it. */
export async function stampsOf(values: Values, names: readonly string[] = NAMES): Promise<Stamps> {
  const stamps: Record<string, string> = {};
  for (const name of names) {
    const text = values.text(name);
    if (text === undefined) continue;
    stamps[name] = await stampOf(name === 'features' ? text : namedFolder(text));
  }
  return stamps;
}

/** Digest of all content of a file or folder. */
export async function stampOf(place: string): Promise<string> {
  return createHash('sha256')
    .update(await fileStamp([place]))
    .digest('hex');
}

/** What pictures depend on besides content: settings, and what lies beside the files of a model. */
export async function modelIdentity(values: Values, opened: FamilyModel): Promise<Json> {
  const { family, tokenizer, ar } = opened;
  return {
    ...{ family, stamps: await stampsOf(values), settings: asJson(await modelSettings(values)) },
    configurations: isDetailFlow(opened) ? undefined : asJson([tokenizer.config, ar?.config]),
    dtype: values.text('dtype'),
  };
}

/** Where workers find what options name: as the command line has it, paths from the root on. */
export function modelHints({ given }: Invocation): Readonly<Record<string, string>> {
  const hints: Record<string, string> = {};
  for (const name of NAMES) {
    const text = given[name];
    if (typeof text !== 'string') continue;
    hints[name] = sharedPlace(text);
  }
  return hints;
}

/** A place as other machines may know it. */
export function sharedPlace(text: string): string {
  const isName = isRemote(text) || releasedModel(text) !== undefined || !existsSync(text);
  return isName ? text : path.resolve(text);
}

/** Compares content that is here with that of a job. @throws DetailFlowError `config` */
export function requireSame(here: Stamps, job: unknown, places: Readonly<Record<string, unknown>>): void {
  const wanted = (typeof job === 'object' && job !== null ? job : {}) as Record<string, unknown>;
  for (const name of new Set([...Object.keys(here), ...Object.keys(wanted)])) {
    if (here[name] === wanted[name]) continue;
    const file = typeof places[name] === 'string' ? places[name] : undefined;
    throw new DetailFlowError(
      'config',
      here[name] === undefined
        ? `the job has a --${name}, which is not known here; start the worker with --${name}`
        : `is not what the job means by --${name}: it has another content; put the same files there, or start the worker with --${name} where they are`,
      { file },
    );
  }
}

export const asJson = (value: unknown): Json => JSON.parse(JSON.stringify(value ?? null));
