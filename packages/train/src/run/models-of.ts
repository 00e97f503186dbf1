import { parseTokenModelConfig } from '@detailflow/ar-model';
import type { TrainableFamily } from '@detailflow/blocks';
import { type ConfigObject, configObject } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { parseTokenizerConfig } from '@detailflow/tokenizer';
import type { RunConfig } from '../family-config';
import { detailflowModels } from './detailflow-models';
import { familyModels } from './family-models';
import type { RunModels } from './run-models';

/**
 * The models that settings say.
 * @param family which they are of; none for DetailFlow
 * @throws DetailFlowError `config` when settings and family do not belong together
 */
export function modelsOf(config: RunConfig, family: TrainableFamily | undefined, file?: string): RunModels {
  const named = 'family' in config ? config.family : undefined;
  if (named !== family?.name) {
    const [has, should] = [family?.name, named].map((name) => name ?? 'DetailFlow');
    throw new DetailFlowError(
      'config',
      `the settings are of ${should}, the family that was given is ${has}`,
      {
        ...{ file, entry: 'family' },
      },
    );
  }
  return 'family' in config && family
    ? familyModels(config, family, file)
    : detailflowModels(config as Exclude<RunConfig, { family: string }>);
}

/**
 * The models of a run that is read again, from its config.json.
 * @throws DetailFlowError `config` naming the setting, or the family that is not among those given
 */
export function modelsInFile(
  settings: ConfigObject,
  families: readonly TrainableFamily[],
  file: string,
): RunModels {
  const section = (name: string) => configObject(settings[name], file, name);
  const [tokenizer, tokenModel] = [section('tokenizer'), section('tokenModel')];
  const family = families.find(({ name }) => name === settings.family);
  if (settings.family !== undefined && !family) {
    const names = families.map(({ name }) => name).join(', ');
    throw new DetailFlowError(
      'config',
      `is ${JSON.stringify(settings.family)}, a family that is not known here (${names || 'only DetailFlow'})`,
      { file, entry: 'family' },
    );
  }
  if (family) return modelsOf(settings as unknown as RunConfig, family, file);
  const model = configObject(tokenModel.model, file, 'tokenModel.model');
  const { classes: _, ...ar } = parseTokenModelConfig({ ...model, classes: 1 }, file);
  return detailflowModels({
    tokenizer: { ...tokenizer, model: parseTokenizerConfig(tokenizer.model, file) },
    tokenModel: { ...tokenModel, model: ar },
  } as unknown as Parameters<typeof detailflowModels>[0]);
}
