import type { TokenModelConfig } from '@detailflow/ar-model';
import { ConfigFields, DetailFlowError } from '@detailflow/core';
import {
  type Augmentation,
  augmentationLimits,
  type CodeViews,
  type Colour,
  parseColour,
  type ViewOptions,
} from '@detailflow/data';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import type { ClassifierRecipe } from './classifier-trainer';
import type { DiscriminatorConfig } from './discriminator-settings';
import { trainingPresets } from './presets';
import { notMultiple, whole } from './settings-values';
import { parseTokenModel } from './token-model-settings';
import type { TokenModelRecipe } from './token-model-trainer';
import type { TokenizerRecipe } from './tokenizer-recipe';
import { parseTokenizer } from './tokenizer-settings';

/** What determines a training run of any kind of models, but the images. */
export interface CommonConfig {
  readonly name: string;
  readonly seed: number;
  /** How many micro-batches are computed at once, each by a backend of its own. */
  readonly replicas: number;
  readonly data: DataConfig;
  /** The judge of the pictures, and the network of a perceptual loss. */
  readonly classifier: {
    /** Channels of its stages. */
    readonly widths: readonly [number, number, number];
    readonly features: number;
    readonly recipe: ClassifierRecipe;
  };
  readonly checkpoints: {
    /** Steps between checkpoints. */
    readonly every: number;
    /** How many stay. */
    readonly keep: number;
    /** Checkpoints of so many steps, twice as many, .. are saved and stay beside those; none without it. */
    readonly milestones?: number;
  };
  readonly validation: {
    /** Steps between validations. */
    readonly every: number;
    /** Held-out images that are looked at. */
    readonly images: number;
    /** End when so many validations in a row found nothing better; 0 for never. */
    readonly patience: number;
    /** Pictures that are drawn at each validation of the AR model, for the Frechet distance of their features; 0 for none. */
    readonly generate: number;
  };
}

/** Everything that determines a training run of DetailFlow, but the images. */
export interface TrainingConfig extends CommonConfig {
  readonly tokenizer: {
    readonly model: TokenizerConfig;
    readonly batch: number;
    readonly recipe: TokenizerRecipe;
    /** What an adversarial loss plays against. */
    readonly discriminator: DiscriminatorConfig;
  };
  readonly tokenModel: {
    /** The classes are those of the data. */
    readonly model: Omit<TokenModelConfig, 'classes'>;
    /** Side of the images whose codes it learns, which have fewer tokens; full ones if omitted. */
    readonly imageSize?: number;
    readonly batch: number;
    readonly recipe: TokenModelRecipe;
  };
}

/** How images become pixels in training, and which are held out. Settings: docs/training.md. */
export interface DataConfig extends Omit<ViewOptions, 'size' | 'background'> {
  /** What transparent pictures are laid on, and what lies around padded and moved ones. */
  readonly background: Colour;
  /** Share of the images that is held out where a data set has no test part. */
  readonly heldOut: number;
  /** Ends the part of a file's name that tells which images are held out together; see `HoldOutRule`. */
  readonly groupBy?: string;
  /** Decides which images these are; the seed of the run if omitted. */
  readonly splitSeed?: number;
  /** How much oftener images of small classes come: 0 not at all, 1 until all classes come as often. */
  readonly balance: number;
  /** Views of an image that the AR model learns from. */
  readonly views: CodeViews;
  /** Of views `ten-crop`: sides of the squares that views are cut from, as multiples of the image's. */
  readonly cropRanges?: readonly number[];
  readonly classNames?: readonly string[];
}

const LARGEST_SEED = 2 ** 48;

/**
 * Reads settings as they stand in a file: those of a preset, and others over them.
 * @throws DetailFlowError `config` naming the setting
 * @see https://detailflow.github.io/detailflow-ts/guide/train.html
 */
export function parseTrainingConfig(value: unknown, file?: string): TrainingConfig {
  const given = new ConfigFields(value, { file });
  const preset = given.raw('preset');
  if (preset === undefined) return parse(value, file);
  const base =
    typeof preset === 'string' && Object.hasOwn(trainingPresets, preset) && trainingPresets[preset];
  if (!base) {
    throw new DetailFlowError(
      'config',
      `is no preset; there are ${Object.keys(trainingPresets).join(', ')}`,
      {
        file,
        entry: 'preset',
      },
    );
  }
  const { preset: _, ...rest } = value as Record<string, unknown>;
  return parse(mergeSettings(base, rest), file);
}

function parse(value: unknown, file?: string): TrainingConfig {
  const fields = new ConfigFields(value, { file });
  fields.only(...commonSections, 'tokenizer', 'tokenModel');
  const section = (name: string) => new ConfigFields(fields.raw(name) ?? {}, { file, prefix: name });
  const tokenizer = parseTokenizer(section('tokenizer'), file);
  return orderedConfig(parseCommon(fields, file), {
    tokenizer,
    tokenModel: parseTokenModel(section('tokenModel'), tokenizer.model, file),
  });
}

/** Settings of every run: all sections but the two of models. */
export const commonSections = ['name', 'seed', 'replicas', 'data', 'classifier', 'checkpoints', 'validation'];

/** As config.json of a run has them. */
export function orderedConfig<Models extends object>(
  common: CommonConfig,
  models: Models,
): CommonConfig & Models {
  const { name, seed, replicas, data, ...rest } = common;
  return { name, seed, replicas, data, ...models, ...rest };
}

/** The settings of {@link commonSections}. @throws DetailFlowError `config` naming the setting */
export function parseCommon(fields: ConfigFields, file?: string): CommonConfig {
  const section = (name: string) => new ConfigFields(fields.raw(name) ?? {}, { file, prefix: name });
  const checkpoints = section('checkpoints');
  checkpoints.only('every', 'keep', 'milestones');
  const milestones = whole(
    checkpoints.number('milestones', { least: 0, most: 1e9, fallback: 0 }),
    'checkpoints.milestones',
    file,
  );
  const validation = section('validation');
  validation.only('every', 'images', 'patience', 'generate');
  const upTo = (name: string, most: number) =>
    whole(validation.number(name, { least: 0, most, fallback: 0 }), `validation.${name}`, file);
  const generate = upTo('generate', 1e6);
  if (generate === 1) {
    throw new DetailFlowError(
      'config',
      'is 1: one picture has no distance; must be 0, or from 2 to 1000000',
      {
        ...{ file, entry: 'validation.generate' },
      },
    );
  }
  return {
    name: text(fields, 'name', file) ?? 'model',
    seed: whole(fields.number('seed', { least: 0, most: LARGEST_SEED, fallback: 0 }), 'seed', file),
    replicas: fields.count('replicas', 1),
    data: parseData(section('data'), file),
    classifier: parseClassifier(section('classifier'), file),
    checkpoints: {
      ...{ every: checkpoints.count('every', 500), keep: checkpoints.count('keep', 3) },
      ...(milestones > 0 && { milestones }),
    },
    validation: {
      every: validation.count('every', 500),
      images: validation.count('images', 128),
      patience: upTo('patience', 1e6),
      generate,
    },
  };
}

function parseData(fields: ConfigFields, file?: string): DataConfig {
  fields.only(
    ...[
      'fit',
      'background',
      'zoom',
      'flip',
      'augment',
      'heldOut',
      'groupBy',
      'splitSeed',
      'balance',
      'views',
      'cropRanges',
      'classNames',
    ],
  );
  const [classNames, augment, groupBy] = ['classNames', 'augment', 'groupBy'].map((name) => fields.raw(name));
  const isNames = Array.isArray(classNames) && classNames.every((name) => typeof name === 'string');
  if (classNames !== undefined && !isNames) {
    throw new DetailFlowError('config', 'must be a list of names', { file, entry: 'data.classNames' });
  }
  const views = fields.choice('views', ['center', 'center+mirror', 'ten-crop', 'varied'], 'ten-crop');
  return {
    fit: fields.choice('fit', ['crop', 'pad'], 'crop'),
    zoom: fields.number('zoom', { least: 0.1, most: 1, fallback: 0.8 }),
    flip: fields.flag('flip', true),
    background: parseBackground(fields.raw('background') ?? 'white', file),
    ...(augment !== undefined && { augment: parseAugmentation(augment, file) }),
    heldOut: fields.number('heldOut', { least: 0, most: 0.9, fallback: 0.05 }),
    ...(groupBy !== undefined && { groupBy: parseSeparator(groupBy, file) }),
    ...(fields.raw('splitSeed') !== undefined && {
      splitSeed: whole(fields.number('splitSeed', { least: 0, most: LARGEST_SEED }), 'data.splitSeed', file),
    }),
    balance: fields.number('balance', { least: 0, most: 1, fallback: 0 }),
    views,
    ...(fields.raw('cropRanges') !== undefined && {
      cropRanges: parseCropRanges(fields.raw('cropRanges'), views, file),
    }),
    ...(classNames !== undefined && { classNames: classNames as string[] }),
  };
}

function parseCropRanges(value: unknown, views: CodeViews, file?: string): readonly number[] {
  const entry = 'data.cropRanges';
  if (views !== 'ten-crop') {
    const message = `is a setting of the views ten-crop; the views (data.views) are ${views}`;
    throw new DetailFlowError('config', message, { file, entry });
  }
  const isRange = (x: unknown) => typeof x === 'number' && x >= 1 && x <= 2;
  if (Array.isArray(value) && value.length >= 1 && value.length <= 8 && value.every(isRange)) return value;
  throw new DetailFlowError('config', 'must be a list of 1 to 8 numbers from 1 to 2', { file, entry });
}

function parseBackground(value: unknown, file?: string): Colour {
  try {
    return parseColour(`${value}`);
  } catch (cause) {
    throw new DetailFlowError('config', `is ${JSON.stringify(value)}; must be white, black or #rrggbb`, {
      ...{ file, entry: 'data.background', cause },
    });
  }
}

function parseAugmentation(value: unknown, file?: string): Augmentation {
  const fields = new ConfigFields(value, { file, prefix: 'data.augment' });
  const limits = Object.entries(augmentationLimits);
  fields.only(...limits.map(([name]) => name));
  return Object.fromEntries(
    limits.map(([name, most]) => [name, fields.number(name, { least: 0, most, fallback: 0 })]),
  );
}

function parseSeparator(value: unknown, file?: string): string {
  if (typeof value === 'string' && value.length >= 1 && value.length <= 20) return value;
  throw new DetailFlowError('config', 'must be a text of 1 to 20 characters that ends the name of a group', {
    ...{ file, entry: 'data.groupBy' },
  });
}

function parseClassifier(fields: ConfigFields, file?: string): CommonConfig['classifier'] {
  fields.only(
    ...[
      'widths',
      'features',
      'steps',
      'batch',
      'microBatch',
      'learningRate',
      'warmup',
      'weightDecay',
      'dropout',
    ],
  );
  const widths = fields.raw('widths') ?? [16, 32, 64];
  const isWidth = (x: unknown) => Number.isInteger(x) && (x as number) >= 1 && (x as number) <= 4096;
  if (!Array.isArray(widths) || widths.length !== 3 || !widths.every(isWidth)) {
    throw new DetailFlowError('config', 'must be three whole numbers from 1 to 4096', {
      ...{ file, entry: 'classifier.widths' },
    });
  }
  const steps = fields.count('steps', 2000);
  const batch = fields.count('batch', 64);
  const microBatch = fields.count('microBatch', batch);
  if (batch % microBatch !== 0) throw notMultiple(batch, microBatch, 'classifier.batch', file);
  const warmup = fields.number('warmup', { least: 0, most: steps, fallback: Math.min(steps, 100) });
  return {
    widths: widths as unknown as [number, number, number],
    features: fields.count('features', 128),
    recipe: {
      ...{ steps, batch, microBatch },
      learningRate: fields.positive('learningRate', { fallback: 2e-3, largest: 1 }),
      warmup: whole(warmup, 'classifier.warmup', file),
      weightDecay: fields.number('weightDecay', { least: 0, most: 1, fallback: 0.02 }),
      dropout: fields.number('dropout', { least: 0, most: 0.9, fallback: 0.3 }),
    },
  };
}

function text(fields: ConfigFields, name: string, file?: string): string | undefined {
  const value = fields.raw(name);
  if (value === undefined || (typeof value === 'string' && /^[\w.-]{1,100}$/.test(value))) return value;
  throw new DetailFlowError('config', 'must be a name of letters, digits, dots, hyphens and underscores', {
    file,
    entry: name,
  });
}

type Settings = Readonly<Record<string, unknown>>;

/** Settings over others: objects are merged, everything else is replaced. */
export function mergeSettings(base: Settings, over: Settings): Settings {
  const isObject = (x: unknown): x is Settings => typeof x === 'object' && x !== null && !Array.isArray(x);
  const entries = Object.entries(over).map(([key, value]) => {
    const below = Object.hasOwn(base, key) ? base[key] : undefined;
    return [key, isObject(below) && isObject(value) ? mergeSettings(below, value) : value];
  });
  return { ...base, ...Object.fromEntries(entries) };
}
