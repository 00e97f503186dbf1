import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import type { FileTree } from '@detailflow/checkpoint';
import { ioError } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import {
  fetchRemote,
  type HubProgress,
  isRemote,
  nodeHubSettings,
  type OpenHubOptions,
} from '@detailflow/hub/node';
import { officialHalf } from '../detailflow-folder';
import { toTree } from '../folder-source';
import { openFamilyModel } from '../open-family';
import { releasedModel } from '../released-models';
import { type Command, type Invocation, UsageError } from './command';
import { familiesOf } from './family-module';
import { modelSettings } from './model-settings';
import type { Progress } from './progress';
import { showNotice } from './show-notice';
import { Values } from './values';

type Arguments = Pick<Invocation, 'values' | 'positionals'>;

/**
 * Brings what options name on the hub, on a web server or by the name of a released model onto this machine, and puts its
 * path in place of the name, so that every command works with files. Of a model only what is needed is fetched. With --partial
 * models are left to the command, which reads them where they lie.
 */
export async function localSources(
  command: Command,
  given: Arguments,
  { signal, progress }: Pick<Invocation, 'signal' | 'progress'>,
): Promise<Arguments> {
  const values = { ...given.values };
  let [...positionals] = given.positionals;
  const hub: OpenHubOptions = {
    signal,
    onProgress: showing(progress),
    onNotice: showNotice,
  };
  try {
    for (const [name, { source }] of Object.entries(command.options)) {
      const text = values[name];
      if (source === 'files' && typeof text === 'string' && isRemote(text)) {
        values[name] = await fetchRemote(text, hub);
      }
    }
    if (values.partial === true) return { values, positionals };
    const names = Object.keys(command.options).filter((name) => command.options[name].source === 'model');
    Object.assign(values, await localModel(values, names, hub));
    if (command.positionalModel && positionals.length === 1) {
      const { model, tokenizer, ar } = await localModel({ model: positionals[0] }, ['model'], hub);
      if (tokenizer !== undefined) Object.assign(values, { tokenizer, ar });
      positionals = tokenizer !== undefined ? [] : [model ?? positionals[0]];
    }
  } catch (cause) {
    if (DetailFlowError.isInstance(cause) && cause.code === 'invalid-argument')
      throw new UsageError(cause.message);
    throw cause;
  } finally {
    progress.stop();
  }
  return { values, positionals };
}

interface Named {
  readonly model?: string;
  readonly tokenizer?: string;
  readonly ar?: string;
}

/** The options that name a model, where one of them is not of this machine, with paths in their place. */
async function localModel(
  values: Arguments['values'],
  names: readonly string[],
  hub: OpenHubOptions,
): Promise<Named> {
  const text = (name: string) =>
    names.includes(name) && typeof values[name] === 'string' ? (values[name] as string) : undefined;
  const [model, tokenizer, ar] = [text('model'), text('tokenizer'), text('ar')];
  const isFar = (name?: string) =>
    name !== undefined && (isRemote(name) || releasedModel(name) !== undefined);
  if (![model, tokenizer, ar].some(isFar) || (model !== undefined && (tokenizer ?? ar) !== undefined))
    return {};
  const { signal } = hub;
  const read = new Values({ values } as Invocation);
  const reading = { settings: await modelSettings(read), families: await familiesOf(read), signal };
  const released = releasedModel(model ?? tokenizer ?? '');
  if (model !== undefined && !released) {
    const files = await recorded(model, hub);
    await (await openFamilyModel(files.tree, reading)).close();
    return { model: await files.folder() };
  }
  const first = released?.tokenizer ?? tokenizer;
  const second = model !== undefined ? released?.ar : ar;
  if (first === undefined) return {};
  const [one, two] = [
    await recorded(first, hub),
    second === undefined ? undefined : await recorded(second, hub),
  ];
  const trees = two ? { tokenizer: one.tree, ar: two.tree } : { tokenizer: one.tree };
  // A model whose tokenizer is to be used may be a whole one, such as a bundle.
  const isModel = model === undefined && !names.includes('ar');
  const isWhole = isModel && (await officialHalf(one.tree)) === undefined;
  await (await openFamilyModel(isWhole ? one.tree : trees, reading)).close();
  const own = model === undefined ? {} : { model: undefined };
  return { ...own, tokenizer: await one.folder(), ar: await two?.folder() };
}

/** A tree that remembers what was opened of it, and can lay it out as a folder of links. */
async function recorded(
  text: string,
  hub: OpenHubOptions,
): Promise<{ tree: FileTree; folder(): Promise<string> }> {
  const tree = await toTree(text, { hub });
  if (!isRemote(text)) return { tree, folder: async () => text };
  const opened = new Map<string, string>();
  const recording: FileTree = {
    name: tree.name,
    exists: (file) => tree.exists(file),
    list: (folder) => tree.list(folder),
    async open(file) {
      const source = await tree.open(file);
      if (source.path !== undefined) opened.set(file, source.path);
      return source;
    },
  };
  return { tree: recording, folder: async () => folderOf(opened, hub) };
}

/** A folder of links to files, made once for the same ones. */
async function folderOf(files: ReadonlyMap<string, string>, hub: OpenHubOptions): Promise<string> {
  const { urlCache } = await nodeHubSettings({ urlCache: hub.urlCache });
  const entries = [...files].sort();
  const name = createHash('sha256').update(JSON.stringify(entries)).digest('hex').slice(0, 32);
  const folder = path.join(urlCache, 'models', name);
  const aside = `${folder}.${randomBytes(6).toString('hex')}`;
  try {
    for (const [file, target] of entries) {
      const place = path.join(aside, ...file.split('/'));
      await mkdir(path.dirname(place), { recursive: true });
      await symlink(target, place);
    }
    await rename(aside, folder);
  } catch (cause) {
    await rm(aside, { recursive: true, force: true });
    const isThere = ['ENOTEMPTY', 'EEXIST'].includes((cause as NodeJS.ErrnoException).code ?? '');
    if (isThere) return folder; // its name says that it has the same links
    throw ioError('cannot be laid out', folder, cause);
  }
  return folder;
}

/** Shows the bytes of all files together. */
export function showing(progress: Progress): (state: HubProgress) => void {
  let [known, expected] = [0, -1];
  return ({ allDone, allTotal }) => {
    if (allTotal !== expected || allDone < known) {
      progress.stop();
      progress.start(allTotal, 'bytes');
      [known, expected] = [0, allTotal];
    }
    progress.advance(allDone - known);
    known = allDone;
  };
}
