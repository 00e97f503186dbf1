import { DetailFlowError, describe, fileLimits } from '@detailflow/core';
import { type ConfigObject, configObject } from './config-files';

/** The three files of a bundle. */
export const bundleFiles = {
  card: 'config.json',
  tokenizer: 'tokenizer.safetensors',
  ar: 'ar.safetensors',
} as const;

/** Suggested sampling settings; other keys are kept as they are. */
export interface SamplingRecipe extends ConfigObject {
  /** Guidance scale, from 0. */
  readonly cfg?: number;
}

/** config.json of a bundle: what the model is, who made it, and the configuration of each half. */
export interface BundleCard {
  readonly format: 'detailflow';
  readonly version: 1;
  /** Name of the family whose model it is; DetailFlow where it is missing. */
  readonly family?: string;
  readonly name: string;
  readonly description?: string;
  /** Licence of the weights: an SPDX expression, or a text. */
  readonly license: string;
  /** Who must be credited, and for what. */
  readonly attribution?: string;
  /** Names of the classes, in the order of their numbers. */
  readonly classNames?: readonly string[];
  /** What its pictures show, as in "it knows ...": "clothes, pale on black". */
  readonly subject?: string;
  readonly recipe?: SamplingRecipe;
  /** How the images of the training were divided and made square. */
  readonly data?: ConfigObject;
  readonly tokenizer: { readonly config: ConfigObject; readonly weights: 'tokenizer.safetensors' };
  readonly ar?: { readonly config: ConfigObject; readonly weights: 'ar.safetensors' };
}

const { textLength: maxText, classes: maxClasses } = fileLimits.card;

/**
 * Checks a value read from config.json. Keys that this version does not know are left out.
 * @throws DetailFlowError `format` naming the key, `unsupported` for a later version
 */
export function parseBundleCard(value: unknown, file: string): BundleCard {
  const fail = (entry: string, reason: string) => new DetailFlowError('format', reason, { file, entry });
  const object = configObject(value, file);
  if (object.format !== 'detailflow') {
    throw fail(
      'format',
      'this is not the config.json of a DetailFlow bundle (it must say "format": "detailflow")',
    );
  }
  if (object.version !== 1) {
    throw new DetailFlowError(
      'unsupported',
      `bundle version ${JSON.stringify(object.version)} is not known (1 is); update detailflow`,
      { file, entry: 'version' },
    );
  }
  const optionalText = (key: string) => {
    const text = object[key];
    if (text === undefined) return undefined;
    if (typeof text !== 'string' || text === '' || text.length > maxText) {
      throw fail(key, `must be a text of 1 to ${maxText} characters`);
    }
    return text;
  };
  const text = (key: string) => {
    const found = optionalText(key);
    if (found === undefined) throw fail(key, 'is missing');
    return found;
  };
  const half = <Name extends string>(key: string, weights: Name) => {
    const part = configObject(object[key], file, key);
    if (part.weights !== weights) throw fail(`${key}.weights`, `must be "${weights}"`);
    return { config: configObject(part.config, file, `${key}.config`), weights };
  };
  const samplingRecipe = (settings: ConfigObject): SamplingRecipe => {
    const { cfg } = settings;
    if (cfg === undefined || (typeof cfg === 'number' && Number.isFinite(cfg) && cfg >= 0)) return settings;
    throw fail('recipe.cfg', `is ${describe(cfg)}; must be a number from 0`);
  };
  const { classNames, recipe, data } = object;
  if (classNames !== undefined) {
    const valid =
      Array.isArray(classNames) &&
      classNames.length <= maxClasses &&
      classNames.every((name) => typeof name === 'string' && name.length <= maxText);
    if (!valid) throw fail('classNames', `must be a list of at most ${maxClasses} names`);
  }
  return {
    format: 'detailflow',
    version: 1,
    family: optionalText('family'),
    name: text('name'),
    description: optionalText('description'),
    license: text('license'),
    attribution: optionalText('attribution'),
    classNames: classNames as string[] | undefined,
    subject: optionalText('subject'),
    recipe: recipe === undefined ? undefined : samplingRecipe(configObject(recipe, file, 'recipe')),
    ...(data !== undefined && { data: configObject(data, file, 'data') }),
    tokenizer: half('tokenizer', bundleFiles.tokenizer),
    ar: object.ar === undefined ? undefined : half('ar', bundleFiles.ar),
  };
}
