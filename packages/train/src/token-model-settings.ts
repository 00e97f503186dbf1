import { feedForwardWidth, parseTokenModelConfig, tokenModelParameters } from '@detailflow/ar-model';
import { ConfigFields, DetailFlowError } from '@detailflow/core';
import {
  createResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokensOfSize,
} from '@detailflow/tokenizer';
import { commonRecipe, given, inSection, recipeFields } from './settings-values';
import type { TokenModelRecipe } from './token-model-trainer';
import { dividedByFrozen } from './tokenizer-recipe';
import type { TrainingConfig } from './training-config';

/** The section `tokenModel`. */
export function parseTokenModel(
  fields: ConfigFields,
  tokenizer: TokenizerConfig,
  file?: string,
): TrainingConfig['tokenModel'] {
  fields.only(
    ...recipeFields,
    ...['labelDropout', 'correction', 'dropout', 'tokenDropout', 'dropPath', 'imageSize'],
  );
  const probability = (name: string, fallback: number) =>
    fields.number(name, { least: 0, most: 0.9, fallback });
  const size = new ConfigFields(fields.raw('model'), { file, prefix: 'tokenModel.model' });
  size.only('dim', 'layers', 'heads', 'kvHeads', 'hiddenDim', 'ropeBase', 'normEpsilon');
  const dim = size.count('dim');
  const imageSize = fields.count('imageSize', tokenizer.imageSize);
  const tokens =
    imageSize === tokenizer.imageSize
      ? tokenizer.tokens
      : inSection('tokenModel.imageSize', file, () =>
          tokensOfSize(createResolutionMap(resolutionSettings(tokenizer)), imageSize),
        );
  const { classes: _, ...model } = inSection('tokenModel.model', file, () =>
    parseTokenModelConfig(
      {
        tokens,
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
  const dropPath = probability('dropPath', 0);
  const dropout = probability('dropout', dropPath > 0 ? 0 : 0.1);
  if (dropPath > 0 && dropout > 0) {
    throw new DetailFlowError(
      'config',
      `is ${dropPath}, which takes the place of dropout (${dropout}): set that to 0`,
      {
        ...{ file, entry: 'tokenModel.dropPath' },
      },
    );
  }
  const common = commonRecipe(fields, 'tokenModel', file, { initialFactor: 0.005, finalFactor: 0.01 });
  dividedByFrozen(tokenModelParameters({ ...model, classes: 1 }), common, 'tokenModel', file);
  return {
    model,
    ...(imageSize !== tokenizer.imageSize && { imageSize }),
    batch: fields.count('batch', 256),
    recipe: {
      ...common,
      labelDropout: probability('labelDropout', 0.1),
      correction: fields.number('correction', { least: 0, most: 1, fallback: 0.3 }),
      dropout,
      ...given<TokenModelRecipe>(fields, {
        tokenDropout: () => probability('tokenDropout', 0.1),
        dropPath: () => dropPath,
      }),
    },
  };
}
