import type { TokenModelConfig } from '@detailflow/ar-model';
import type { BundleCard } from '@detailflow/checkpoint';
import { type CallOptions, checkOptions, DetailFlowError } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import { isDetailFlow, type ModelPart } from './detailflow-family';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';

/** An opened DetailFlow model: nothing of the weights is read yet. */
export interface OpenedModel {
  readonly kind: 'bundle' | 'official';
  /** config.json of a bundle. */
  readonly card?: BundleCard;
  readonly tokenizer: ModelPart<TokenizerConfig>;
  readonly ar?: ModelPart<TokenModelConfig>;
  /** Side in pixels of the pictures that it draws: less than the tokenizer's where the AR model has fewer tokens. */
  readonly pictureSize: number;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/**
 * Opens a DetailFlow model and checks that its weights fit its configuration.
 * @throws DetailFlowError naming the file and what is wrong with it; `unsupported` for a model of another family
 */
export async function openModel(
  source: ModelSource,
  options: CallOptions & Pick<OpenFamilyOptions, 'hub' | 'settings'> = {},
): Promise<OpenedModel> {
  checkOptions('openModel', options, { signal: true, hub: true, settings: true });
  const opened = await openFamilyModel(source, options);
  if (isDetailFlow(opened)) {
    const { kind, card, tokenizer, ar, pictureSize } = opened;
    const close = () => opened.close();
    return { kind, card, tokenizer: partOf(tokenizer), ar: ar && partOf(ar), pictureSize, close };
  }
  await opened.close();
  throw new DetailFlowError(
    'unsupported',
    `is a model of ${opened.family}: this takes models of DetailFlow only`,
    {
      file: opened.ar?.file ?? opened.tokenizer.file,
    },
  );
}

const partOf = <Config>({ config, weights, file }: ModelPart<Config>): ModelPart<Config> => ({
  ...{ config, weights, file },
});
