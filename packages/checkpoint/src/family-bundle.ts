import { DetailFlowError, describe } from '@detailflow/core';
import { type Bundle, readBundle } from './bundle';
import { bundleFiles } from './bundle-card';
import { type ConfigObject, readJsonConfig } from './config-files';
import type { FamilyModel, ModelFiles } from './family';
import type { FileTree } from './file-tree';

/** The family of bundles that name none. */
const FIRST_FAMILY = 'DetailFlow';

/** The card of a bundle; undefined where there is none, or a damaged one, which is for whoever opens it to say. */
async function cardOf(tree: FileTree): Promise<ConfigObject | undefined> {
  if (!(await tree.exists(bundleFiles.card))) return undefined;
  const card = await readJsonConfig(tree, bundleFiles.card).catch(() => undefined);
  return card?.format === 'detailflow' ? card : undefined;
}

/**
 * The name of the family that a bundle is of; undefined where the files are no bundle. A bundle holds both halves, so it is
 * none where the halves are named apart.
 */
export async function bundleFamily(files: ModelFiles): Promise<string | undefined> {
  if ('tokenizer' in files && files.ar) return undefined;
  const card = await cardOf('model' in files ? files.model : files.tokenizer);
  if (!card) return undefined;
  return typeof card.family === 'string' ? card.family : FIRST_FAMILY;
}

/**
 * Opens the bundle of a family; its files are closed where `build` fails.
 * @param build the model of its weights, by the configurations on the card
 */
export async function openFamilyBundle(
  files: ModelFiles,
  build: (bundle: Bundle, tree: FileTree) => FamilyModel,
): Promise<FamilyModel> {
  const tree = 'model' in files ? files.model : files.tokenizer;
  const bundle = await readBundle(tree);
  try {
    return { ...build(bundle, tree), card: bundle.card };
  } catch (error) {
    await bundle.close();
    throw error;
  }
}

/**
 * Compares a configuration that was read off weights with the one on the card: a card of another model must not pass.
 * @throws DetailFlowError `config` naming the first field that differs
 */
export function requireSameConfig(
  found: object,
  stated: ConfigObject,
  at: { readonly file: string; readonly entry: string },
): void {
  const different = firstDifference(JSON.parse(JSON.stringify(found)), stated, `${at.entry}.config`);
  if (!different) return;
  throw new DetailFlowError(
    'config',
    `is ${describe(different.stated)}, of the weights beside it ${describe(different.found)}: they do not belong together`,
    { file: at.file, entry: different.entry },
  );
}

interface Difference {
  readonly entry: string;
  readonly found: unknown;
  readonly stated: unknown;
}

/** Where two plain values differ first. */
function firstDifference(found: unknown, stated: unknown, entry: string): Difference | undefined {
  if (!isBranch(found) || !isBranch(stated) || Array.isArray(found) !== Array.isArray(stated)) {
    return Object.is(found, stated) ? undefined : { entry, found, stated };
  }
  for (const key of new Set([...Object.keys(found), ...Object.keys(stated)])) {
    const different = firstDifference(found[key], stated[key], `${entry}.${key}`);
    if (different) return different;
  }
  return undefined;
}

const isBranch = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;
