import path from 'node:path';
import type { TokenModelConfig } from '@detailflow/ar-model';
import { readConfig } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import { mergeSettings, parseRunSettings, type RunSettings } from '@detailflow/train';
import type { InitialParameters } from '@detailflow/train/node';
import { UsageError } from './command';
import { trainingFamilies as families, presetNames } from './training-families';
import type { Values } from './values';

type Settings = Record<string, unknown>;

/** The recipe of a run that goes on from a model without settings of its own: as many small steps as do no harm. */
const finetuning: Settings = {
  name: 'finetuned',
  data: { fit: 'crop' },
  tokenizer: {
    ...{ steps: 2000, batch: 32, microBatch: 8, learningRate: 1e-4, warmup: 100, clip: 1, correction: 0.3 },
  },
  tokenModel: {
    ...{
      steps: 5000,
      batch: 64,
      microBatch: 16,
      learningRate: 1e-4,
      warmup: 200,
      clip: 1,
      weightDecay: 0.05,
    },
    averageDecay: 0.999,
  },
};

/**
 * The settings of `--config`, with those of `--set` over them. Without `--config` they are those of a model that training begins
 * with: its sizes, and a recipe of small steps.
 * `--family` says which models they must be of, where they don't say it themselves.
 * @throws UsageError, DetailFlowError `config`
 */
export async function trainingSettings(values: Values, initial?: InitialParameters): Promise<RunSettings> {
  const source = values.text('config');
  const over = parseSet(values.text('set'));
  const family = values.text('family');
  if (source !== undefined) {
    return parseRunSettings(mergeSettings(await settingsOf(source), over), {
      ...{ families, family },
      file: presetNames.includes(source) ? undefined : source,
    });
  }
  if (family !== undefined) throw new UsageError(`--family ${family} needs --config`);
  const model = initial?.tokenizer?.config;
  if (!model)
    throw new UsageError(
      '--config is missing (it can be left out with --init of a model that says its sizes)',
    );
  const ar = initial?.ar?.config as TokenModelConfig | undefined;
  const sizes: Settings = {
    tokenizer: { model: { ...model } },
    tokenModel: { model: ar ? sizesOf(ar) : { dim: 192, layers: 4, heads: 6 } },
  };
  if (!(model as TokenizerConfig).correction) Object.assign(sizes.tokenizer as Settings, { correction: 0 });
  return parseRunSettings(mergeSettings(mergeSettings(finetuning, sizes), over), { families });
}

const sizesOf = ({ dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon }: TokenModelConfig) => ({
  ...{ dim, layers, heads, kvHeads, hiddenDim, ropeBase, normEpsilon },
});

async function settingsOf(source: string): Promise<Settings> {
  if (presetNames.includes(source)) return { preset: source };
  if (!/\.(json|ya?ml)$/.test(source)) {
    throw new UsageError(
      `--config "${source}": give a .json or .yaml file, or one of ${presetNames.join(', ')}`,
    );
  }
  const value = await readConfig(path.resolve(source));
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Settings;
  throw new DetailFlowError('config', 'is not an object of settings', { file: source });
}

/** "tokenizer.steps=2000,data.views=center" -> nested settings. A value is JSON, or else a text. */
function parseSet(text: string | undefined): Settings {
  const settings: Settings = {};
  // What follows a comma is another setting only where it looks like one: lists have commas, too.
  for (const pair of text?.split(/,(?=[A-Za-z][\w.]*=)/) ?? []) {
    const [, name, value] = /^([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)=([\s\S]*)$/.exec(pair) ?? [];
    if (name === undefined || value === '') {
      throw new UsageError(`--set "${pair}": give a setting and its value, such as tokenizer.steps=2000`);
    }
    const keys = name.split('.');
    let at = settings;
    for (const key of keys.slice(0, -1)) {
      const below = Object.hasOwn(at, key) ? at[key] : {};
      if (typeof below !== 'object' || below === null || Array.isArray(below)) {
        throw new UsageError(`--set ${name}: "${key}" is given as a value, too`);
      }
      const next = below as Settings;
      Object.defineProperty(at, key, { value: next, enumerable: true, configurable: true, writable: true });
      at = next;
    }
    const last = keys[keys.length - 1];
    if (Object.hasOwn(at, last)) throw new UsageError(`--set ${name} is given twice`);
    Object.defineProperty(at, last, {
      value: parsedValue(value),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  return settings;
}

function parsedValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
