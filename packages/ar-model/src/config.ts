import {
  feedForwardWidth,
  type GroupTransformerConfig,
  gptSizes,
  parseGroupConfig,
} from '@detailflow/blocks';
import { ConfigFields, DetailFlowError } from '@detailflow/core';

/** Everything that determines an AR model's graph. docs/method.md section 4 names the symbols. */
export type TokenModelConfig = GroupTransformerConfig;

/** Names of the sizes that GPTs are released in, such as 'GPT-B'. */
export type PresetName = keyof typeof gptSizes;

/** A full configuration from an official size and what a data set and a tokenizer determine. */
export function presetConfig(
  name: PresetName,
  rest: Pick<TokenModelConfig, 'tokens' | 'groupSize' | 'vocabularySize' | 'classes'> & {
    causalTokens?: number;
  },
): TokenModelConfig {
  const preset = gptSizes[name];
  if (!preset) {
    throw new DetailFlowError(
      'config',
      `there is no preset "${name}"; give one of ${Object.keys(gptSizes).join(', ')}`,
    );
  }
  return parseTokenModelConfig({
    ...preset,
    ...rest,
    causalTokens: rest.causalTokens ?? rest.groupSize,
    kvHeads: preset.heads,
    hiddenDim: feedForwardWidth(preset.dim),
    ropeBase: 10000,
    normEpsilon: 1e-5,
  });
}

/**
 * A configuration from plain data, such as a bundle's card, checked and bounded.
 * @throws DetailFlowError `config` naming the field that no model can be built from
 * @see https://detailflow.github.io/detailflow-ts/packages/ar-model.html
 */
export const parseTokenModelConfig = (value: unknown, file?: string): TokenModelConfig =>
  parseGroupConfig(value, { file });

/**
 * Reads an official config.json of an AR model.
 * @throws DetailFlowError `config` or `unsupported`
 */
export function officialTokenModelConfig(value: unknown, file?: string): TokenModelConfig {
  const fields = new ConfigFields(value, { file });
  fields.expect('model_type', 'c2i');
  fields.expect('cls_token_num', 1);
  // A table that was frozen in training is read like any other.
  fields.flag('learnable_tok_embeddings', true);
  const dim = fields.count('dim');
  const groupSize = fields.count('group_size');
  const heads = fields.count('n_head');
  const multiplier =
    fields.raw('ffn_dim_multiplier') === undefined ? undefined : fields.positive('ffn_dim_multiplier');
  return parseTokenModelConfig(
    {
      tokens: fields.count('block_size'),
      groupSize,
      causalTokens: fields.count('causal_num', groupSize, 0),
      vocabularySize: fields.count('vocab_size'),
      classes: fields.count('num_classes'),
      dim,
      layers: fields.count('n_layer'),
      heads,
      kvHeads: fields.count('n_kv_head', heads),
      hiddenDim: feedForwardWidth(dim, fields.count('multiple_of', 256), multiplier),
      ropeBase: fields.positive('rope_base', { fallback: 10000 }),
      normEpsilon: fields.positive('norm_eps', { fallback: 1e-5 }),
    },
    file,
  );
}

/** A configuration in the official form: config.json of an AR model. */
export function toOfficialTokenModelConfig(config: TokenModelConfig): Record<string, unknown> {
  const { dim, hiddenDim, groupSize, causalTokens } = config;
  // The official code computes the width of the SwiGLU layer; these make it come out right.
  const computed = Math.trunc((2 * (4 * dim)) / 3);
  const multiplier = hiddenDim < computed ? (hiddenDim + 0.5) / computed : null;
  return {
    dim,
    n_layer: config.layers,
    n_head: config.heads,
    n_kv_head: config.kvHeads === config.heads ? null : config.kvHeads,
    multiple_of: hiddenDim,
    ffn_dim_multiplier: multiplier,
    rope_base: config.ropeBase,
    norm_eps: config.normEpsilon,
    num_classes: config.classes,
    model_type: 'c2i',
    vocab_size: config.vocabularySize,
    cls_token_num: 1,
    block_size: config.tokens,
    learnable_tok_embeddings: true,
    group_size: groupSize,
    causal_num: causalTokens === groupSize ? null : causalTokens,
  };
}
