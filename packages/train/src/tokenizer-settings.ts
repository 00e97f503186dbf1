import { ConfigFields, DetailFlowError } from '@detailflow/core';
import { createResolutionMap, parseTokenizerConfig, resolutionSettings } from '@detailflow/tokenizer';
import { discriminatorFields, parseDiscriminator } from './discriminator-settings';
import type { AdversarialRecipe } from './losses/adversarial';
import type { AlignmentRecipe } from './losses/alignment';
import type { PerceptualRecipe } from './losses/perceptual';
import type { RepaRecipe } from './losses/repa';
import type { RevivalOptions } from './revival';
import { commonRecipe, factor, given, inSection, MOST_STEPS, recipeFields, whole } from './settings-values';
import { checkSizes, type SizeRecipe } from './step-size';
import type { TokenizerRecipe } from './tokenizer-recipe';
import type { TrainingConfig } from './training-config';

/** The section `tokenizer`. */
export function parseTokenizer(fields: ConfigFields, file?: string): TrainingConfig['tokenizer'] {
  fields.only(
    ...recipeFields,
    ...imageLossFields,
    ...['degradation', 'correction', 'draws', 'alignment', 'repa', 'sizes', 'finetuneDecoder', 'pretrained'],
  );
  const section = (name: string) => optionalSection(fields, name, file);
  const [alignment, repa, sizes] = ['alignment', 'repa', 'sizes'].map(section);
  const probability = (name: string, fallback: number) =>
    fields.number(name, { least: 0, most: 1, fallback });
  const losses = parseImageLosses(fields, file);
  refuseUnknown(fields.raw('model') ?? {}, file);
  const model = inSection('tokenizer.model', file, () => parseTokenizerConfig(fields.raw('model'), file));
  const batch = fields.count('batch', 256);
  const common = commonRecipe(fields, 'tokenizer', file, { initialFactor: 0.1, finalFactor: 0.1 });
  const draws = parseDraws(fields, { batch, microBatch: common.microBatch, file });
  return {
    model,
    batch,
    recipe: {
      ...common,
      degradation: probability('degradation', 0.2),
      correction: probability('correction', 1),
      ...losses.recipe,
      ...(alignment && { alignment: parseAlignment(alignment) }),
      ...(repa && { repa: parseRepa(repa, file) }),
      ...(sizes && { sizes: parseSizes(sizes, { model, batch: batch / draws, file }) }),
      ...losses.weight,
      ...given<TokenizerRecipe>(fields, {
        draws: () => draws,
        finetuneDecoder: () => fields.flag('finetuneDecoder'),
        pretrained: () => parsePretrained(fields.raw('pretrained'), file),
      }),
    },
    discriminator: losses.discriminator,
  };
}

/** @throws DetailFlowError `config` when a batch cannot be divided so */
function parseDraws(
  fields: ConfigFields,
  { batch, microBatch, file }: { batch: number; microBatch: number; file?: string },
): number {
  const draws = fields.count('draws', 1);
  if (batch % (draws * microBatch) === 0) return draws;
  throw new DetailFlowError(
    'config',
    `the batch (${batch}) must be a multiple of draws (${draws}) times microBatch (${microBatch})`,
    { file, entry: 'tokenizer.draws' },
  );
}

/** Settings of losses that any tokenizer can have. */
export const imageLossFields = [
  ...['pixelLoss', 'pixelWeight', 'vqRatio', 'commitBeta', 'entropyRatio', 'revival'],
  ...['perceptual', 'adversarial'],
];

/** The settings of {@link imageLossFields}; the weight of pixels stands apart, as it comes last. */
export function parseImageLosses(fields: ConfigFields, file?: string) {
  const [perceptual, adversarial] = ['perceptual', 'adversarial'].map((name) =>
    optionalSection(fields, name, file),
  );
  const weight = (name: string, fallback: number) => fields.number(name, { least: 0, most: 1000, fallback });
  const revival = fields.raw('revival');
  return {
    recipe: {
      pixelLoss: fields.choice('pixelLoss', ['l2', 'l1'] as const, 'l2'),
      quantiser: {
        vqRatio: weight('vqRatio', 1),
        commitBeta: weight('commitBeta', 0.25),
        entropyRatio: weight('entropyRatio', 0),
      },
      ...(revival !== undefined && { revival: parseRevival(revival, file) }),
      ...(perceptual && { perceptual: parsePerceptual(perceptual, file) }),
      ...(adversarial && { adversarial: parseAdversarial(adversarial, file) }),
    },
    weight: given<Pick<TokenizerRecipe, 'pixelWeight'>>(fields, {
      pixelWeight: () => weight('pixelWeight', 1),
    }),
    discriminator: parseDiscriminator(adversarial, file),
  };
}

const optionalSection = (fields: ConfigFields, name: string, file?: string): ConfigFields | undefined =>
  fields.raw(name) === undefined
    ? undefined
    : new ConfigFields(fields.raw(name), { file, prefix: `tokenizer.${name}` });

const vitFeatures = ['layers', 'last', 'class', 'logits'] as const;
const siglipFeatures: readonly (typeof vitFeatures)[number][] = ['layers', 'last'];

function parsePerceptual(fields: ConfigFields, file?: string): PerceptualRecipe {
  fields.only('network', 'weight', 'warmup', 'dropout', 'features');
  const warmup = fields.number('warmup', { least: 0, most: MOST_STEPS, fallback: 10000 });
  const network = fields.choice('network', ['vgg', 'classifier', 'vit', 'siglip'], 'vgg');
  const features = () => fields.choice('features', network === 'siglip' ? siglipFeatures : vitFeatures);
  const hasTokens = network === 'vit' || network === 'siglip';
  const recipe = given<PerceptualRecipe>(fields, { dropout: () => fields.flag('dropout'), features });
  if (recipe.features !== undefined && !hasTokens) {
    throw new DetailFlowError(
      'config',
      `is a setting of the networks vit and siglip; the network is ${network}`,
      {
        ...{ file, entry: 'tokenizer.perceptual.features' },
      },
    );
  }
  return {
    network,
    weight: factor(fields, 'weight', 1),
    warmup: whole(warmup, 'tokenizer.perceptual.warmup', file),
    ...recipe,
  };
}

function parseAdversarial(fields: ConfigFields, file?: string): AdversarialRecipe {
  fields.only(
    ...['start', 'weight', 'adaptive', 'lecam', 'consistency', ...discriminatorFields],
    ...['augment', 'loss', 'generatorLoss'],
  );
  const start = fields.number('start', { least: 0, most: MOST_STEPS, fallback: 40000 });
  return {
    start: whole(start, 'tokenizer.adversarial.start', file),
    weight: factor(fields, 'weight', 0.2),
    adaptive: fields.flag('adaptive', false),
    lecam: factor(fields, 'lecam', 0.001),
    consistency: factor(fields, 'consistency', 4),
    ...given<AdversarialRecipe>(fields, {
      augment: () => fields.flag('augment'),
      loss: () =>
        fields.choice<'hinge' | 'vanilla' | 'non-saturating'>('loss', ['hinge', 'vanilla', 'non-saturating']),
      generatorLoss: () =>
        fields.choice<'hinge' | 'non-saturating'>('generatorLoss', ['hinge', 'non-saturating']),
    }),
  };
}

function parseAlignment(fields: ConfigFields): AlignmentRecipe {
  fields.only('weight');
  return { weight: factor(fields, 'weight', 1) };
}

/** A misspelt size would be ignored otherwise. */
function refuseUnknown(value: unknown, file?: string): void {
  const model = new ConfigFields(value, { file, prefix: 'tokenizer.model' });
  model.only(
    ...[
      'imageSize',
      'tokens',
      'groupSize',
      'causalTokens',
      'codebookSize',
      'codebookDim',
      'encoder',
      'decoder',
    ],
    ...['causalEncoder', 'causalDecoder', 'correction', 'resolutionPower', 'normalisedCodebook', 'mixture'],
  );
  new ConfigFields(model.raw('mixture') ?? {}, { file, prefix: 'tokenizer.model.mixture' }).only(
    'temperature',
  );
  for (const name of ['encoder', 'decoder']) {
    const tower = new ConfigFields(model.raw(name) ?? {}, { file, prefix: `tokenizer.model.${name}` });
    tower.only('width', 'heads', 'layers', 'mlpWidth', 'patchSize', 'positionGrid');
  }
}

function parsePretrained(value: unknown, file?: string) {
  const fields = new ConfigFields(value, { file, prefix: 'tokenizer.pretrained' });
  fields.only('encoder', 'decoder');
  return { encoder: fields.flag('encoder', false), decoder: fields.flag('decoder', false) };
}

function parseRepa(fields: ConfigFields, file?: string): RepaRecipe {
  fields.only('weight', 'layer', 'width');
  const layer = fields.number('layer', { least: 0, most: 1023, fallback: 1 });
  return {
    weight: factor(fields, 'weight', 0.5),
    layer: whole(layer, 'tokenizer.repa.layer', file),
    width: fields.count('width', 1024),
  };
}

function parseSizes(
  fields: ConfigFields,
  { model, batch, file }: Pick<TrainingConfig['tokenizer'], 'model' | 'batch'> & { readonly file?: string },
): SizeRecipe {
  fields.only('imageSize', 'minSize', 'maxSize', 'probability', 'maxProbability', 'adjustBatch');
  const probability = (name: string) => fields.number(name, { least: 0, most: 1, fallback: 0 });
  const sizes = {
    imageSize: fields.count('imageSize', model.imageSize),
    minSize: fields.count('minSize', fields.count('imageSize', model.imageSize)),
    maxSize: fields.count('maxSize', model.imageSize),
    probability: probability('probability'),
    maxProbability: probability('maxProbability'),
    adjustBatch: fields.flag('adjustBatch', false),
  };
  inSection('tokenizer.sizes', file, () =>
    checkSizes(createResolutionMap(resolutionSettings(model)), sizes, batch),
  );
  return sizes;
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
