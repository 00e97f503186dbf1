import type { TrainableFamily } from '@detailflow/blocks';
import { ConfigFields, checkOptions, DetailFlowError } from '@detailflow/core';
import type { DiscriminatorConfig } from './discriminator-settings';
import type { PlainTokenizerRecipe } from './plain-tokenizer-recipe';
import { trainingPresets } from './presets';
import { commonRecipe, given, inSection, recipeFields } from './settings-values';
import type { TokenModelRecipe } from './token-model-trainer';
import { dividedByFrozen } from './tokenizer-recipe';
import { imageLossFields, parseImageLosses } from './tokenizer-settings';
import {
  type CommonConfig,
  commonSections,
  mergeSettings,
  orderedConfig,
  parseCommon,
  parseTrainingConfig,
  type TrainingConfig,
} from './training-config';

/** Everything that determines a training run of another family, but the images. */
export interface FamilyTrainingConfig extends CommonConfig {
  /** Name of the family: see `TrainableFamily`. */
  readonly family: string;
  readonly tokenizer: {
    /** What the family makes of the settings. */
    readonly model: object;
    readonly batch: number;
    readonly recipe: PlainTokenizerRecipe;
    /** What an adversarial loss plays against. */
    readonly discriminator: DiscriminatorConfig;
  };
  readonly tokenModel: {
    /** The family's settings; tokenizer and data say the rest. */
    readonly model: object;
    readonly batch: number;
    readonly recipe: TokenModelRecipe;
  };
}

/** Settings of a run, and the family that they are of, where that is not DetailFlow. */
export type RunSettings =
  | { readonly config: TrainingConfig; readonly family?: undefined }
  | { readonly config: FamilyTrainingConfig; readonly family: TrainableFamily };

/** Settings of a run of any family. */
export type RunConfig = TrainingConfig | FamilyTrainingConfig;

/** Options of {@link parseRunSettings}. */
export interface RunSettingsOptions {
  /** The families that settings may name, by value. */
  readonly families: readonly TrainableFamily[];
  /** The family that somebody asks for: settings must be of it, or of none. */
  readonly family?: string;
  /** For messages. */
  readonly file?: string;
}

/** What settings without a family are of. */
const FIRST_FAMILY = 'detailflow';

/**
 * Reads settings of a run of any family as they stand in a file: those of a preset, and others over them.
 * @throws DetailFlowError `config` naming the setting
 */
export function parseRunSettings(value: unknown, options: RunSettingsOptions): RunSettings {
  checkOptions('parseRunSettings', options, { families: true, family: true, file: true });
  const { families, family: wanted, file } = options;
  const given = new ConfigFields(value, { file });
  const { preset, ...rest } = value as Readonly<Record<string, unknown>>;
  const presets = Object.assign({}, ...families.map((one) => one.presets));
  const isOther = typeof preset === 'string' && Object.hasOwn(presets, preset);
  if (preset !== undefined && !isOther && !isOwnPreset(preset)) {
    const names = [...Object.keys(trainingPresets), ...Object.keys(presets)].join(', ');
    throw new DetailFlowError('config', `is no preset; there are ${names}`, { file, entry: 'preset' });
  }
  const base = isOther ? presets[preset] : isOwnPreset(preset) ? trainingPresets[preset] : {};
  const own = isOther ? base.family : isOwnPreset(preset) ? FIRST_FAMILY : undefined;
  const named = given.raw('family') ?? own ?? wanted ?? FIRST_FAMILY;
  const family = families.find(({ name }) => name === named);
  if (!family && named !== FIRST_FAMILY) {
    const names = [FIRST_FAMILY, ...families.map(({ name }) => name)].join(', ');
    throw new DetailFlowError('config', `is ${JSON.stringify(named)}; there are ${names}`, {
      ...{ file, entry: 'family' },
    });
  }
  for (const [what, name] of [
    ['the preset is', own],
    ['asked for is', wanted],
  ]) {
    if (name === undefined || name === named) continue;
    throw new DetailFlowError('config', `is ${JSON.stringify(named)}, but ${what} ${JSON.stringify(name)}`, {
      ...{ file, entry: 'family' },
    });
  }
  if (family) return { config: parseFamily(mergeSettings(base, rest), family, file), family };
  const { family: _, ...plain } = value as Readonly<Record<string, unknown>>;
  return { config: parseTrainingConfig(plain, file) };
}

const isOwnPreset = (preset: unknown): preset is string =>
  typeof preset === 'string' && Object.hasOwn(trainingPresets, preset);

function parseFamily(value: unknown, family: TrainableFamily, file?: string): FamilyTrainingConfig {
  const fields = new ConfigFields(value, { file });
  fields.only('family', ...commonSections, 'tokenizer', 'tokenModel');
  const section = (name: string) => new ConfigFields(fields.raw(name) ?? {}, { file, prefix: name });
  const [tokenizer, tokenModel] = [section('tokenizer'), section('tokenModel')];
  const having = (...names: string[]) => names.filter((name) => !family.without?.includes(name));
  tokenizer.only(...recipeFields, ...having(...imageLossFields));
  tokenModel.only(...recipeFields, 'labelDropout', 'dropPath', ...having('dropout', 'tokenDropout'));
  const vq = inSection('tokenizer.model', file, () => family.tokenizer(tokenizer.raw('model'), file));
  const gpt = inSection('tokenModel.model', file, () =>
    family.tokenModel(tokenModel.raw('model'), { tokenizer: vq, classes: 1, file }),
  );
  const { recipe, weight, discriminator } = parseImageLosses(tokenizer, file);
  const vqRecipe = commonRecipe(tokenizer, 'tokenizer', file, { initialFactor: 0.1, finalFactor: 0.1 });
  const gptRecipe = commonRecipe(tokenModel, 'tokenModel', file, { initialFactor: 0.005, finalFactor: 0.01 });
  dividedByFrozen(vq.specs, vqRecipe, 'tokenizer', file);
  dividedByFrozen(gpt.specs, gptRecipe, 'tokenModel', file);
  const { name, seed, ...common } = parseCommon(fields, file);
  return {
    family: family.name,
    ...orderedConfig(
      { name, seed, ...common },
      {
        tokenizer: {
          model: vq.config,
          batch: tokenizer.count('batch', 256),
          recipe: {
            ...vqRecipe,
            ...recipe,
            ...weight,
          },
          discriminator,
        },
        tokenModel: {
          model: gpt.settings,
          batch: tokenModel.count('batch', 256),
          recipe: {
            ...gptRecipe,
            ...droppingOf(tokenModel, family, file),
          },
        },
      },
    ),
  };
}

function droppingOf(fields: ConfigFields, { without = [] }: TrainableFamily, file?: string) {
  const probability = (name: string, fallback: number) =>
    fields.number(name, { least: 0, most: 0.9, fallback });
  const dropPath = probability('dropPath', 0);
  const dropout = without.includes('dropout') ? 0 : probability('dropout', dropPath > 0 ? 0 : 0.1);
  if (dropPath > 0 && dropout > 0) {
    throw new DetailFlowError(
      'config',
      `is ${dropPath}, which takes the place of dropout (${dropout}): set that to 0`,
      { file, entry: 'tokenModel.dropPath' },
    );
  }
  return {
    ...{ labelDropout: probability('labelDropout', 0.1), correction: 0, dropout },
    ...given<TokenModelRecipe>(fields, {
      tokenDropout: () => probability('tokenDropout', 0.1),
      dropPath: () => dropPath,
    }),
  };
}
