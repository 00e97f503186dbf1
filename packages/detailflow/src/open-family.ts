import {
  bundleFamily,
  type ConfigObject,
  type Family,
  type FamilyModel,
  type FileTree,
  type ModelFiles,
} from '@detailflow/checkpoint';
import { type CallOptions, checkOptions, DetailFlowError, describe } from '@detailflow/core';
import type { OpenHubOptions } from '@detailflow/hub/node';
import { llamagenFamily, parFamily } from '@detailflow/llamagen';
import { softvqFamily } from '@detailflow/softvq';
import { flexvarFamily, varFamily } from '@detailflow/var';
import { detailflowFamily } from './detailflow-family';
import { type ModelSource, modelFiles } from './folder-source';

/** The families that are asked, in this order, after those of the user. SoftVQ's folders look like DetailFlow's. */
export const families: readonly Family[] = [
  softvqFamily,
  detailflowFamily,
  llamagenFamily,
  parFamily,
  varFamily,
  flexvarFamily,
];

/** Which families are asked, and what no file says. */
export interface OpenFamilyOptions extends CallOptions {
  /** How files of the hub are fetched and kept. */
  readonly hub?: OpenHubOptions;
  /** Families of your own, which are asked first. */
  readonly families?: readonly Family[];
  /**
   * What no file of the model says, such as `{ imageSize: 384 }` or `{ scales: [1, 2, 4] }`; of official DetailFlow checkpoints
   * `tokenizerKey` and `arKey`, 'model' or 'ema', which of their weights to read (default: model of a tokenizer, ema of an AR model).
   */
  readonly settings?: ConfigObject;
}

/**
 * Opens a model of any family and checks that its weights fit its configuration; nothing of the weights is read yet.
 * @throws DetailFlowError naming the file and what is wrong with it, or the setting that has to be given
 */
export async function openFamilyModel(
  source: ModelSource,
  options: OpenFamilyOptions = {},
): Promise<FamilyModel> {
  checkOptions('openFamilyModel', options, { families: true, settings: true, hub: true, signal: true });
  const { settings, hub, signal } = options;
  const all = [...(options.families ?? []), ...families];
  const files: ModelFiles = { ...(await modelFiles(source, { hub, signal })), ...(settings && { settings }) };
  const found = await firstOf(all, files, { signal });
  if (found) return found.open(files, { signal });
  const bundle = await bundleFamily(files);
  if (bundle !== undefined) {
    throw new DetailFlowError(
      'unsupported',
      `is a bundle of ${describe(bundle)}, a family that is not known (${all.map(({ name }) => name).join(', ')} are)`,
      { file: `${('model' in files ? files.model : files.tokenizer).name}/config.json`, entry: 'family' },
    );
  }
  if (!('model' in files) && files.ar) await refuseMixture(all, [files.tokenizer, files.ar], { signal });
  for (const tree of 'model' in files ? [files.model] : [files.tokenizer, ...(files.ar ? [files.ar] : [])]) {
    const weights = (await tree.list('')).find((name) => /\.(pt|pth|ckpt)$/.test(name));
    if (weights === undefined) continue;
    throw new DetailFlowError(
      'unsupported',
      `holds weights that no family knows (${all.map(({ name }) => name).join(', ')})`,
      { file: `${tree.name}/${weights}` },
    );
  }
  return detailflowFamily.open(files, { signal });
}

async function firstOf(
  all: readonly Family[],
  files: ModelFiles,
  options: CallOptions,
): Promise<Family | undefined> {
  for (const family of all) if (await family.recognise(files, options)) return family;
  return undefined;
}

/** Says what the two halves are, where each is of some family and no family has both. */
async function refuseMixture(
  all: readonly Family[],
  halves: readonly [FileTree, FileTree],
  options: CallOptions,
): Promise<void> {
  const known = await Promise.all(halves.map((model) => firstOf(all, { model }, options)));
  const [first, second] = known;
  if (!first || !second || first === second) return;
  const places = await Promise.all(halves.map(weightsOf));
  throw new DetailFlowError(
    'config',
    `tokenizer and AR model do not belong together: ${places[0]} is of ${first.name}, ${places[1]} of ${second.name}`,
    { file: places[1] },
  );
}

/** The one file of weights in a folder, else the folder. */
async function weightsOf(tree: FileTree): Promise<string> {
  const files = (await tree.list('')).filter((name) => /\.(pt|pth|ckpt|safetensors)$/.test(name));
  return files.length === 1 ? `${tree.name}/${files[0]}` : tree.name;
}
