import { feedForwardWidth, parseTokenModelConfig, type TokenModelConfig } from '@detailflow/ar-model';
import { ConfigFields, DetailFlowError } from '@detailflow/core';
import {
  type Augmentation,
  augmentationLimits,
  type CodeViews,
  type Colour,
  parseColour,
  type ViewOptions,
} from '@detailflow/data';
import type { PatchDiscriminatorConfig } from '@detailflow/features';
import { parseTokenizerConfig, type TokenizerConfig } from '@detailflow/tokenizer';
import type { ClassifierRecipe } from './classifier-trainer';
import type { AdversarialRecipe } from './losses/adversarial';
import type { AlignmentRecipe } from './losses/alignment';
import type { PerceptualRecipe } from './losses/perceptual';
import type { OptimiserOptions } from './optimiser';
import { trainingPresets } from './presets';
import type { RevivalOptions } from './revival';
import type { TokenModelRecipe } from './token-model-trainer';
import type { TokenizerRecipe } from './tokenizer-trainer';

/** Everything that determines a training run, but the images. */
export interface TrainingConfig {
  readonly name: string;
  readonly seed: number;
  /** How many micro-batches are computed at once, each by a backend of its own. */
  readonly replicas: number;
  readonly data: DataConfig;
  readonly tokenizer: {
    readonly model: TokenizerConfig;
    readonly batch: number;
    readonly recipe: TokenizerRecipe;
    /** The PatchGAN that an adversarial loss plays against. */
    readonly discriminator: PatchDiscriminatorConfig;
  };
  readonly tokenModel: {
    /** The classes are those of the data. */
    readonly model: Omit<TokenModelConfig, 'classes'>;
    readonly batch: number;
    readonly recipe: TokenModelRecipe;
  };
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
  };
  readonly validation: {
    /** Steps between validations. */
    readonly every: number;
    /** Held-out images that are looked at. */
    readonly images: number;
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
  /** How much oftener images of small classes come: 0 not at all, 1 until all classes come as often. */
  readonly balance: number;
  /** Views of an image that the AR model learns from. */
  readonly views: CodeViews;
  readonly classNames?: readonly string[];
}

const LARGEST_SEED = 2 ** 48;
const MOST_STEPS = 1e9;

/**
 * Reads settings as they stand in a file: those of a preset, and others over them.
 * @throws DetailFlowError `config` naming the setting
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
  return parse(merge(base, rest), file);
}

function parse(value: unknown, file?: string): TrainingConfig {
  const fields = new ConfigFields(value, { file });
  fields.only(
    'name',
    'seed',
    'replicas',
    'data',
    'tokenizer',
    'tokenModel',
    'classifier',
    'checkpoints',
    'validation',
  );
  const section = (name: string) => new ConfigFields(fields.raw(name) ?? {}, { file, prefix: name });
  const tokenizer = parseTokenizer(section('tokenizer'), file);
  const checkpoints = section('checkpoints');
  checkpoints.only('every', 'keep');
  const validation = section('validation');
  validation.only('every', 'images');
  return {
    name: text(fields, 'name', file) ?? 'model',
    seed: whole(fields.number('seed', { least: 0, most: LARGEST_SEED, fallback: 0 }), 'seed', file),
    replicas: fields.count('replicas', 1),
    data: parseData(section('data'), file),
    tokenizer,
    tokenModel: parseTokenModel(section('tokenModel'), tokenizer.model, file),
    classifier: parseClassifier(section('classifier'), file),
    checkpoints: { every: checkpoints.count('every', 500), keep: checkpoints.count('keep', 3) },
    validation: { every: validation.count('every', 500), images: validation.count('images', 128) },
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
      'balance',
      'views',
      'classNames',
    ],
  );
  const [classNames, augment, groupBy] = ['classNames', 'augment', 'groupBy'].map((name) => fields.raw(name));
  const isNames = Array.isArray(classNames) && classNames.every((name) => typeof name === 'string');
  if (classNames !== undefined && !isNames) {
    throw new DetailFlowError('config', 'must be a list of names', { file, entry: 'data.classNames' });
  }
  return {
    fit: fields.choice('fit', ['crop', 'pad'], 'crop'),
    zoom: fields.number('zoom', { least: 0.1, most: 1, fallback: 0.8 }),
    flip: fields.flag('flip', true),
    background: parseBackground(fields.raw('background') ?? 'white', file),
    ...(augment !== undefined && { augment: parseAugmentation(augment, file) }),
    heldOut: fields.number('heldOut', { least: 0, most: 0.9, fallback: 0.05 }),
    ...(groupBy !== undefined && { groupBy: parseSeparator(groupBy, file) }),
    balance: fields.number('balance', { least: 0, most: 1, fallback: 0 }),
    views: fields.choice('views', ['center', 'ten-crop', 'varied'], 'ten-crop'),
    ...(classNames !== undefined && { classNames: classNames as string[] }),
  };
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

const recipeFields = [
  ...['model', 'steps', 'batch', 'microBatch', 'learningRate', 'warmup', 'initialFactor', 'finalFactor'],
  ...['betas', 'epsilon', 'clip', 'weightDecay', 'averageDecay'],
];

function parseTokenizer(fields: ConfigFields, file?: string): TrainingConfig['tokenizer'] {
  fields.only(
    ...recipeFields,
    ...['degradation', 'correction', 'pixelLoss', 'vqRatio', 'commitBeta', 'entropyRatio', 'revival'],
    ...['perceptual', 'adversarial', 'alignment'],
  );
  const section = (name: string) =>
    fields.raw(name) === undefined
      ? undefined
      : new ConfigFields(fields.raw(name), { file, prefix: `tokenizer.${name}` });
  const [perceptual, adversarial, alignment] = ['perceptual', 'adversarial', 'alignment'].map(section);
  const probability = (name: string, fallback: number) =>
    fields.number(name, { least: 0, most: 1, fallback });
  const weight = (name: string, fallback: number) => fields.number(name, { least: 0, most: 1000, fallback });
  const revival = fields.raw('revival');
  return {
    model: inSection('tokenizer.model', file, () => parseTokenizerConfig(fields.raw('model'), file)),
    batch: fields.count('batch', 256),
    recipe: {
      ...commonRecipe(fields, 'tokenizer', file, { initialFactor: 0.1, finalFactor: 0.1 }),
      degradation: probability('degradation', 0.2),
      correction: probability('correction', 1),
      pixelLoss: fields.choice('pixelLoss', ['l2', 'l1'], 'l2'),
      quantiser: {
        vqRatio: weight('vqRatio', 1),
        commitBeta: weight('commitBeta', 0.25),
        entropyRatio: weight('entropyRatio', 0),
      },
      ...(revival !== undefined && { revival: parseRevival(revival, file) }),
      ...(perceptual && { perceptual: parsePerceptual(perceptual, file) }),
      ...(adversarial && { adversarial: parseAdversarial(adversarial, file) }),
      ...(alignment && { alignment: parseAlignment(alignment) }),
    },
    discriminator: {
      width: adversarial?.count('width', 64) ?? 64,
      layers: adversarial?.count('layers', 3) ?? 3,
    },
  };
}

function parseClassifier(fields: ConfigFields, file?: string): TrainingConfig['classifier'] {
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

const notMultiple = (batch: number, microBatch: number, entry: string, file?: string) =>
  new DetailFlowError('config', `the batch (${batch}) must be a multiple of microBatch (${microBatch})`, {
    ...{ file, entry },
  });

const factor = (fields: ConfigFields, name: string, fallback: number) =>
  fields.number(name, { least: 0, most: 1000, fallback });

function parsePerceptual(fields: ConfigFields, file?: string): PerceptualRecipe {
  fields.only('network', 'weight', 'warmup');
  const warmup = fields.number('warmup', { least: 0, most: MOST_STEPS, fallback: 10000 });
  const network = fields.choice('network', ['vgg', 'classifier'], 'vgg');
  return {
    network,
    weight: factor(fields, 'weight', 1),
    warmup: whole(warmup, 'tokenizer.perceptual.warmup', file),
  };
}

function parseAdversarial(fields: ConfigFields, file?: string): AdversarialRecipe {
  fields.only('start', 'weight', 'adaptive', 'lecam', 'consistency', 'width', 'layers');
  const start = fields.number('start', { least: 0, most: MOST_STEPS, fallback: 40000 });
  return {
    start: whole(start, 'tokenizer.adversarial.start', file),
    weight: factor(fields, 'weight', 0.2),
    adaptive: fields.flag('adaptive', false),
    lecam: factor(fields, 'lecam', 0.001),
    consistency: factor(fields, 'consistency', 4),
  };
}

function parseAlignment(fields: ConfigFields): AlignmentRecipe {
  fields.only('weight');
  return { weight: factor(fields, 'weight', 1) };
}

function parseRevival(value: unknown, file?: string): RevivalOptions {
  const fields = new ConfigFields(value, { file, prefix: 'tokenizer.revival' });
  fields.only('every', 'until', 'patience');
  return {
    every: fields.count('every', 10),
    until: fields.number('until', { least: 0, most: 1, fallback: 0.6 }),
    patience: fields.count('patience', 40),
  };
}

function parseTokenModel(
  fields: ConfigFields,
  tokenizer: TokenizerConfig,
  file?: string,
): TrainingConfig['tokenModel'] {
  fields.only(...recipeFields, 'labelDropout', 'correction', 'dropout');
  const probability = (name: string, fallback: number) =>
    fields.number(name, { least: 0, most: 0.9, fallback });
  const size = new ConfigFields(fields.raw('model'), { file, prefix: 'tokenModel.model' });
  size.only('dim', 'layers', 'heads', 'kvHeads', 'hiddenDim', 'ropeBase', 'normEpsilon');
  const dim = size.count('dim');
  const { classes: _, ...model } = inSection('tokenModel.model', file, () =>
    parseTokenModelConfig(
      {
        tokens: tokenizer.tokens,
        groupSize: tokenizer.groupSize,
        causalTokens: tokenizer.causalTokens,
        vocabularySize: tokenizer.codebookSize,
        classes: 1,
        dim,
        layers: size.count('layers'),
        heads: size.count('heads'),
        kvHeads: size.count('kvHeads', size.count('heads')),
        hiddenDim: size.count('hiddenDim', feedForwardWidth(dim)),
        ropeBase: size.positive('ropeBase', { fallback: 10000 }),
        normEpsilon: size.positive('normEpsilon', { fallback: 1e-5 }),
      },
      file,
    ),
  );
  return {
    model,
    batch: fields.count('batch', 256),
    recipe: {
      ...commonRecipe(fields, 'tokenModel', file, { initialFactor: 0.005, finalFactor: 0.01 }),
      labelDropout: probability('labelDropout', 0.1),
      correction: fields.number('correction', { least: 0, most: 1, fallback: 0.3 }),
      dropout: probability('dropout', 0.1),
    },
  };
}

/** Names the section in errors of what knows only its own settings. */
function inSection<T>(section: string, file: string | undefined, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    const entry = error.entry === undefined ? section : `${section}.${error.entry}`;
    const place = [error.file, error.entry].filter((part) => part !== undefined).join(': ');
    const reason = place === '' ? error.message : error.message.slice(place.length + 2);
    throw new DetailFlowError(error.code, reason, { file, entry, cause: error });
  }
}

function commonRecipe(
  fields: ConfigFields,
  section: 'tokenizer' | 'tokenModel',
  file: string | undefined,
  factors: { initialFactor: number; finalFactor: number },
) {
  const steps = whole(fields.number('steps', { least: 1, most: MOST_STEPS }), `${section}.steps`, file);
  const batch = fields.count('batch', 256);
  const microBatch = fields.count('microBatch', batch);
  if (batch % microBatch !== 0) throw notMultiple(batch, microBatch, `${section}.batch`, file);
  const factor = (name: 'initialFactor' | 'finalFactor') =>
    fields.number(name, { least: 0, most: 1, fallback: factors[name] });
  const optional = (name: string, most: number) =>
    fields.raw(name) === undefined ? undefined : fields.number(name, { least: 0, most });
  const [clip, weightDecay] = [optional('clip', 1e9), optional('weightDecay', 1)];
  const averageDecay = optional('averageDecay', 1);
  return {
    microBatch,
    learningRate: fields.positive('learningRate', { largest: 1 }),
    schedule: {
      steps,
      warmup: whole(
        fields.number('warmup', { least: 0, most: steps, fallback: 0 }),
        `${section}.warmup`,
        file,
      ),
      initialFactor: factor('initialFactor'),
      finalFactor: factor('finalFactor'),
    },
    optimiser: {
      betas: parseBetas(fields.raw('betas') ?? [0.9, 0.95], `${section}.betas`, file),
      epsilon: fields.positive('epsilon', { fallback: 1e-8, largest: 1 }),
      ...(clip !== undefined && { clip }),
      ...(weightDecay !== undefined && { weightDecay }),
    } satisfies OptimiserOptions,
    ...(averageDecay !== undefined && { averageDecay }),
  };
}

function parseBetas(value: unknown, entry: string, file?: string): readonly [number, number] {
  const isBeta = (x: unknown) => typeof x === 'number' && x >= 0 && x < 1;
  if (Array.isArray(value) && value.length === 2 && value.every(isBeta)) return [value[0], value[1]];
  throw new DetailFlowError('config', 'must be two numbers from 0, below 1', { file, entry });
}

function text(fields: ConfigFields, name: string, file?: string): string | undefined {
  const value = fields.raw(name);
  if (value === undefined || (typeof value === 'string' && /^[\w.-]{1,100}$/.test(value))) return value;
  throw new DetailFlowError('config', 'must be a name of letters, digits, dots, hyphens and underscores', {
    file,
    entry: name,
  });
}

function whole(value: number, entry: string, file?: string): number {
  if (Number.isSafeInteger(value)) return value;
  throw new DetailFlowError('config', `is ${value}; must be a whole number`, { file, entry });
}

type Settings = Readonly<Record<string, unknown>>;

/** Settings over others: objects are merged, everything else is replaced. */
function merge(base: Settings, over: Settings): Settings {
  const isObject = (x: unknown): x is Settings => typeof x === 'object' && x !== null && !Array.isArray(x);
  const entries = Object.entries(over).map(([key, value]) => {
    const below = Object.hasOwn(base, key) ? base[key] : undefined;
    return [key, isObject(below) && isObject(value) ? merge(below, value) : value];
  });
  return { ...base, ...Object.fromEntries(entries) };
}
