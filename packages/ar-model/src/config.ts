import { DetailFlowError } from '@detailflow/core';

/** Everything that determines an AR model's graph. docs/method.md section 4 names the symbols. */
export interface TokenModelConfig {
  /** Places of the sequence, N. */
  readonly tokens: number;
  /** Tokens predicted at once, g. */
  readonly groupSize: number;
  /** First tokens, predicted one by one, c: a multiple of g. */
  readonly causalTokens: number;
  readonly vocabularySize: number;
  /** Classes without the unconditional one. */
  readonly classes: number;
  readonly dim: number;
  readonly layers: number;
  readonly heads: number;
  /** Key and value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Width of the SwiGLU layer. */
  readonly hiddenDim: number;
  readonly ropeBase: number;
  readonly normEpsilon: number;
}

/** Sizes of the official models. Source: docs/method.md section 4. */
export const presets = {
  'GPT-B': { layers: 12, heads: 12, dim: 768 },
  'GPT-L': { layers: 24, heads: 16, dim: 1024 },
  'GPT-XL': { layers: 36, heads: 20, dim: 1280 },
  'GPT-XLPlus': { layers: 42, heads: 22, dim: 1408 },
  'GPT-XXL': { layers: 48, heads: 24, dim: 1536 },
  'GPT-XXLPlus': { layers: 48, heads: 30, dim: 1920 },
  'GPT-XXXL': { layers: 48, heads: 40, dim: 2560 },
  'GPT-1B': { layers: 22, heads: 32, dim: 2048 },
  'GPT-3B': { layers: 24, heads: 32, dim: 3200 },
  'GPT-7B': { layers: 32, heads: 32, dim: 4096 },
} as const satisfies Readonly<Record<string, { layers: number; heads: number; dim: number }>>;

export type PresetName = keyof typeof presets;

/** A full configuration from an official size and what a data set and a tokenizer determine. */
export function presetConfig(
  name: PresetName,
  rest: Pick<TokenModelConfig, 'tokens' | 'groupSize' | 'vocabularySize' | 'classes'> & {
    causalTokens?: number;
  },
): TokenModelConfig {
  const preset = presets[name];
  if (!preset) {
    throw new DetailFlowError(
      'config',
      `there is no preset "${name}"; give one of ${Object.keys(presets).join(', ')}`,
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

/** Width of the SwiGLU layer: two thirds of 4 dim, times `multiplier`, rounded up to `multipleOf`. */
export function feedForwardWidth(dim: number, multipleOf = 256, multiplier?: number | null): number {
  let hidden = Math.trunc((2 * (4 * dim)) / 3);
  if (multiplier !== undefined && multiplier !== null) hidden = Math.trunc(multiplier * hidden);
  return multipleOf * Math.ceil(hidden / multipleOf);
}

/** Far beyond any plausible model; they bound the lists and caches that a broken file can ask for. */
const MOST_LAYERS = 1024;
const MOST_TOKENS = 16384;

/** @throws DetailFlowError `config` naming the field that no model can be built from */
export function parseTokenModelConfig(value: unknown, file?: string): TokenModelConfig {
  const record = requireRecord(value, file);
  const whole = (name: string) => requireCount(record[name], name, file);
  const config: TokenModelConfig = {
    tokens: whole('tokens'),
    groupSize: whole('groupSize'),
    causalTokens: whole('causalTokens'),
    vocabularySize: whole('vocabularySize'),
    classes: whole('classes'),
    dim: whole('dim'),
    layers: whole('layers'),
    heads: whole('heads'),
    kvHeads: whole('kvHeads'),
    hiddenDim: whole('hiddenDim'),
    ropeBase: requirePositive(record.ropeBase, 'ropeBase', file),
    normEpsilon: requirePositive(record.normEpsilon, 'normEpsilon', file),
  };
  const { tokens, groupSize, causalTokens, dim, heads, kvHeads } = config;
  const fail = (message: string) => {
    throw new DetailFlowError('config', message, { file });
  };
  if (tokens % groupSize !== 0 || causalTokens % groupSize !== 0 || causalTokens > tokens) {
    fail(
      `tokens (${tokens}) and causalTokens (${causalTokens}) must be multiples of groupSize (${groupSize}), and causalTokens at most tokens`,
    );
  }
  if (config.layers > MOST_LAYERS) fail(`it has ${config.layers} layers; at most ${MOST_LAYERS} are read`);
  if (tokens > MOST_TOKENS) fail(`it has ${tokens} tokens; at most ${MOST_TOKENS} are possible`);
  if (dim % heads !== 0 || (dim / heads) % 4 !== 0) {
    fail(`dim (${dim}) must be heads (${heads}) times a multiple of 4, for two-dimensional rotary positions`);
  }
  if (heads % kvHeads !== 0) fail(`heads (${heads}) must be a multiple of kvHeads (${kvHeads})`);
  return config;
}

/**
 * Reads an official config.json of an AR model.
 * @throws DetailFlowError `config` or `unsupported`
 */
export function officialTokenModelConfig(value: unknown, file?: string): TokenModelConfig {
  const config = requireRecord(value, file);
  for (const [name, expected] of Object.entries({
    model_type: 'c2i',
    cls_token_num: 1,
    learnable_tok_embeddings: true,
  })) {
    if (config[name] !== undefined && config[name] !== expected) {
      throw new DetailFlowError(
        'unsupported',
        `is ${JSON.stringify(config[name])}; only ${expected} can be read`,
        {
          file,
          entry: name,
        },
      );
    }
  }
  // Checked under their official names; parseTokenModelConfig() would give ours.
  const whole = (name: string) => requireCount(config[name], name, file);
  const dim = whole('dim');
  const multipleOf = requireCount(config.multiple_of ?? 256, 'multiple_of', file);
  const multiplier = config.ffn_dim_multiplier ?? undefined;
  return parseTokenModelConfig(
    {
      tokens: whole('block_size'),
      groupSize: whole('group_size'),
      causalTokens: whole(config.causal_num == null ? 'group_size' : 'causal_num'),
      vocabularySize: whole('vocab_size'),
      classes: whole('num_classes'),
      dim,
      layers: whole('n_layer'),
      heads: whole('n_head'),
      kvHeads: whole(config.n_kv_head == null ? 'n_head' : 'n_kv_head'),
      hiddenDim: feedForwardWidth(
        dim,
        multipleOf,
        multiplier === undefined ? undefined : requirePositive(multiplier, 'ffn_dim_multiplier', file),
      ),
      ropeBase: requirePositive(config.rope_base ?? 10000, 'rope_base', file),
      normEpsilon: requirePositive(config.norm_eps ?? 1e-5, 'norm_eps', file),
    },
    file,
  );
}

function requireRecord(value: unknown, file?: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new DetailFlowError('config', 'the configuration of the AR model is not an object', { file });
}

const LARGEST = 1 << 24;

function requireCount(value: unknown, entry: string, file?: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= LARGEST) return value;
  throw new DetailFlowError(
    'config',
    `is ${JSON.stringify(value)}; must be a whole number from 1 to ${LARGEST}`,
    { file, entry },
  );
}

function requirePositive(value: unknown, entry: string, file?: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw new DetailFlowError('config', `is ${JSON.stringify(value)}; must be a number above 0`, {
    file,
    entry,
  });
}
