import { DetailFlowError, type Weights } from '@detailflow/core';
import { type ConfigObject, readJsonConfig } from './config-files';
import type { ModelFiles } from './family';
import { type HalfSettingsRule, halfSettings } from './family-settings';
import type { FileTree } from './file-tree';
import { openStateDicts, type StateDicts } from './state-dicts';

/** How a family knows one half of its models. */
export interface HalfRule extends HalfSettingsRule {
  /** What the half is, in words for messages: "the tokenizer of VAR". */
  readonly what: string;
  /** Where its state dict may lie in a checkpoint, the most wanted place first; `[]` is the file itself. */
  readonly places: readonly (readonly string[])[];
  /** Where a checkpoint may hold settings of the training; those of a configuration go before them. */
  readonly settingsAt?: readonly (readonly string[])[];
  /** Whether weights of these names and shapes are this half's. */
  matches(weights: Weights, half: Omit<FoundHalf, 'weights'>): boolean;
}

/** A half that was found. */
export interface FoundHalf {
  readonly weights: Weights;
  readonly file: string;
  /** Of the user, of a config.json beside the file, and of the training, in this order. */
  readonly settings: ConfigObject;
}

/** The two halves of a model as they are found among its files. */
export interface FamilyHalves {
  readonly tokenizer?: FoundHalf;
  readonly ar?: FoundHalf;
  /** What other files of weights hold, by file. */
  readonly others: ReadonlyMap<string, Weights>;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

type Role = 'tokenizer' | 'ar';
const roles = ['tokenizer', 'ar'] as const;
type Rules = Readonly<Record<Role, HalfRule>>;

interface Options {
  readonly signal?: AbortSignal;
}

/**
 * Finds the halves of a family's models among files: weights lie at the top of a folder, under any name.
 * @returns undefined unless every tree holds a file of the family, in whatever place it was given
 */
export async function recogniseHalves(
  files: ModelFiles,
  rules: Rules,
  options: Options = {},
): Promise<FamilyHalves | undefined> {
  const { found, others, close } = await lookThrough(files, rules, options);
  const trees = treesOf(files);
  if (trees.every((_, i) => found.some((one) => one.tree === i))) {
    const half = (role: Role) => found.find((one) => one.role === role)?.half;
    return { tokenizer: half('tokenizer'), ar: half('ar'), others, close };
  }
  await close();
  return undefined;
}

/**
 * Opens the halves of a family's model.
 * @throws DetailFlowError `invalid-argument` when a half is missing, in the other's place, or there twice; what reading
 * the files throws
 */
export async function openHalves(
  files: ModelFiles,
  rules: Rules,
  options: Options = {},
): Promise<FamilyHalves & { readonly tokenizer: FoundHalf }> {
  const { found, others, close } = await lookThrough(files, rules, options);
  try {
    const trees = treesOf(files);
    const pick = (role: Role): FoundHalf | undefined => {
      const index = trees.length === 2 && role === 'ar' ? 1 : 0;
      const here = found.filter((one) => one.role === role && one.tree === index);
      if (here.length > 1) {
        const names = here.map(({ half }) => half.file).join(' and ');
        throw new DetailFlowError(
          'invalid-argument',
          `${names} are both ${rules[role].what}; name one file for each half: { tokenizer, ar }`,
          { file: trees[index].name },
        );
      }
      return here[0]?.half;
    };
    if ('tokenizer' in files) requirePlaces(files, found, rules);
    const [tokenizer, ar] = [pick('tokenizer'), 'tokenizer' in files && !files.ar ? undefined : pick('ar')];
    if (tokenizer) return { tokenizer, ar, others, close };
    throw new DetailFlowError(
      'invalid-argument',
      ar
        ? `is ${rules.ar.what} without its tokenizer; give both files: { tokenizer, ar }`
        : `there is no file of weights that holds ${rules.tokenizer.what}`,
      { file: ar?.file ?? trees[0].name },
    );
  } catch (error) {
    await close();
    throw error;
  }
}

interface Found {
  readonly tree: number;
  readonly role: Role;
  readonly half: FoundHalf;
}

/** Every file must be in its place. */
function requirePlaces(
  files: Extract<ModelFiles, { tokenizer: FileTree }>,
  found: readonly Found[],
  rules: Rules,
): void {
  for (const [index, role] of roles.entries()) {
    const tree = files[role];
    if (!tree) continue;
    const here = found.filter((one) => one.tree === index);
    if (here.some((one) => one.role === role)) continue;
    const other = found.find((one) => one.tree === 1 - index)?.half.file ?? files[roles[1 - index]]?.name;
    const beside = other === undefined ? '' : ` (beside ${other})`;
    const [wrong] = here;
    throw new DetailFlowError(
      'invalid-argument',
      wrong
        ? `is ${rules[wrong.role].what}, and was given as ${role}${beside}: are the two files swapped?`
        : `holds no weights of ${rules[role].what}${beside}`,
      { file: wrong?.half.file ?? tree.name },
    );
  }
}

const treesOf = (files: ModelFiles): readonly FileTree[] =>
  'model' in files ? [files.model] : files.ar ? [files.tokenizer, files.ar] : [files.tokenizer];

async function lookThrough(files: ModelFiles, rules: Rules, options: Options) {
  const opened: StateDicts[] = [];
  const close = async () => {
    await Promise.all(opened.map((one) => one.close()));
  };
  const found: Found[] = [];
  const others = new Map<string, Weights>();
  try {
    for (const [tree, folder] of treesOf(files).entries()) {
      const paths = await weightPaths(folder);
      const beside = paths.length > 0 ? await configBeside(folder) : undefined;
      for (const path of paths) {
        options.signal?.throwIfAborted();
        const dicts = await openStateDicts(folder, path, options);
        opened.push(dicts);
        const halves = roles.flatMap((role) => {
          const half = halfOf(dicts, rules[role], [beside, files.settings]);
          return half ? [{ tree, role, half }] : [];
        });
        found.push(...halves);
        if (halves.length === 0) others.set(dicts.file, foreignWeights(dicts, rules));
      }
    }
    return { found, others, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The state dict of a file that is neither half. */
function foreignWeights(dicts: StateDicts, rules: Rules): Weights {
  const places = roles.flatMap((role) => rules[role].places);
  return places.map((place) => dicts.at(place)).find((weights) => weights !== undefined) ?? new Map();
}

function halfOf(
  dicts: StateDicts,
  rule: HalfRule,
  configurations: readonly (ConfigObject | undefined)[],
): FoundHalf | undefined {
  for (const place of rule.places) {
    const weights = dicts.at(place);
    if (!weights) continue;
    const ofTraining = (rule.settingsAt ?? []).map((keys) => dicts.settings(keys));
    const settings = halfSettings([...ofTraining, ...configurations], rule);
    if (rule.matches(weights, { file: dicts.file, settings })) return { weights, file: dicts.file, settings };
  }
  return undefined;
}

/** Files of weights at the top of a folder; the parts of a checkpoint in several files stand behind its index. */
async function weightPaths(tree: FileTree): Promise<string[]> {
  const names = await tree.list('');
  return names.filter(
    (name) =>
      /\.(pt|pth|ckpt|safetensors|safetensors\.index\.json)$|^pytorch_model\.bin(\.index\.json)?$/.test(
        name,
      ) && !/-\d+-of-\d+\.\w+$/.test(name),
  );
}

async function configBeside(tree: FileTree): Promise<ConfigObject | undefined> {
  return (await tree.exists('config.json')) ? readJsonConfig(tree, 'config.json') : undefined;
}
