import { ConfigFields, DetailFlowError } from '@detailflow/core';
import type { RopeTransformerConfig } from './rope-transformer';

/**
 * Where tokens lie on the grid that turns queries and keys: `groups` in rows of a group, one dimension of tokens laid out
 * as DetailFlow does; `raster` by their place in the picture, row by row (LlamaGen); `regions` by their place in the
 * picture, drawn region by region in parallel (PAR).
 */
export type Arrangement = 'groups' | 'raster' | 'regions';

/** Everything that determines the graph of a group-parallel transformer. docs/method.md section 4 names the symbols. */
export interface GroupTransformerConfig extends RopeTransformerConfig {
  /** Places of the sequence, N. */
  readonly tokens: number;
  /** Tokens predicted at once, g. */
  readonly groupSize: number;
  /** First tokens, predicted one by one, c: a multiple of g; 0 where the first group is predicted at once, too. */
  readonly causalTokens: number;
  /** Classes without the unconditional one. */
  readonly classes: number;
  readonly ropeBase: number;
  /** Default `groups`. */
  readonly arrangement?: Arrangement;
}

/** Far beyond any plausible model; they bound the lists and caches that a broken file can ask for. */
const MOST_LAYERS = 1024;
const MOST_TOKENS = 16384;

/**
 * A configuration from plain data, checked and bounded.
 * @throws DetailFlowError `config` naming the field that no model can be built from
 */
export function parseGroupConfig(
  value: unknown,
  { file, arrangement }: { readonly file?: string; readonly arrangement?: Arrangement } = {},
): GroupTransformerConfig {
  const fields = new ConfigFields(value, { file });
  const config: GroupTransformerConfig = {
    tokens: fields.count('tokens'),
    groupSize: fields.count('groupSize'),
    causalTokens: fields.count('causalTokens', undefined, 0),
    vocabularySize: fields.count('vocabularySize'),
    classes: fields.count('classes'),
    dim: fields.count('dim'),
    layers: fields.count('layers'),
    heads: fields.count('heads'),
    kvHeads: fields.count('kvHeads'),
    hiddenDim: fields.count('hiddenDim'),
    ropeBase: fields.positive('ropeBase'),
    normEpsilon: fields.positive('normEpsilon'),
    ...(arrangement && { arrangement }),
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
  if (arrangement && !Number.isInteger(Math.sqrt(tokens))) {
    fail(`its ${tokens} tokens are no square grid`);
  }
  if (arrangement === 'regions' && (causalTokens !== groupSize || !isRegionCount(groupSize, tokens))) {
    fail(
      `a grid of ${tokens} tokens cannot be cut into ${groupSize} regions drawn in groups of ${groupSize}`,
    );
  }
  if (heads % kvHeads !== 0) fail(`heads (${heads}) must be a multiple of kvHeads (${kvHeads})`);
  return config;
}

/** Whether a square grid can be cut into so many square regions. */
function isRegionCount(regions: number, tokens: number): boolean {
  const across = Math.sqrt(regions);
  return Number.isInteger(across) && Math.sqrt(tokens) % across === 0;
}
