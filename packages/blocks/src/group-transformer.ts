import {
  equal,
  extent,
  type GraphBuilder,
  gather,
  reshape,
  select,
  slice,
  type Value,
} from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { groupParameters } from './group-parameters';
import { type Parameters, parameterAccess } from './parameters';
import { PlaceKind, ropeTables } from './places';
import {
  cachedAttend,
  type Dropout,
  maskedAttend,
  type RopeTransformerInputs,
  ropeTransformer,
} from './rope-transformer';

/** Access to the weights of an AR model inside a graph. */
export const groupWeights = (graph: GraphBuilder, config: GroupTransformerConfig): Parameters =>
  parameterAccess(graph, groupParameters(config));

// Shapes: B rows (sequences), L places fed, N places in all, E dim, K key heads, D head dim, V vocabulary.

/** What is fed at L places. */
export interface PlaceInputs {
  /** i32 [B, L]: class, token or number of the special embedding, by kind. */
  readonly ids: Value;
  /** i32 [L], or [B, L] where each row has places of its own: see {@link PlaceKind}. */
  readonly kinds: Value;
  /** As `kinds`: places in the sequence, ascending. */
  readonly positions: Value;
}

/**
 * Logits of all fed places at once, for training and for checking the cache.
 * @param inputs.visible bool [L, L]
 * @param inputs.dropout of the embedded sequence and of what attention and feed-forward add; none if omitted
 * @returns logits [B, L, V]
 */
export function forward(
  p: Parameters,
  config: GroupTransformerConfig,
  inputs: PlaceInputs & { readonly visible: Value; readonly dropout?: Dropout },
): Value {
  const attend = maskedAttend(config, inputs.visible);
  const { dropout = (x) => x } = inputs;
  return ropeTransformer(p, config, { ...embedded(p, config, inputs, dropout), attend, dropout });
}

/** How a step of the transformer attends to its cache. */
export interface StepOptions {
  /** Bias [L] that hides some of the fed places from each other; all see all if omitted. */
  readonly freshBias?: Value;
  /** Places of the cache, or what counts them, see {@link cachedAttend}: N unless said. */
  readonly cache?: number | Value;
}

/**
 * Logits of the fed places, which see each other and all places before them; keys and values of every place are
 * kept in the states `layers.i.k` and `layers.i.v` [B, K, N, D].
 * @returns logits [B, L, V]
 */
export function step(
  graph: GraphBuilder,
  p: Parameters,
  config: GroupTransformerConfig,
  inputs: PlaceInputs,
  { freshBias, cache = config.tokens }: StepOptions = {},
): Value {
  const attend = cachedAttend(graph, config, {
    batch: extent(inputs.ids, 0),
    offset: slice(inputs.positions, 0, 0, 1), // [1]
    cache,
    freshBias,
  });
  return ropeTransformer(p, config, { ...embedded(p, config, inputs), attend });
}

/** The embedded places [B, L, E] and their rotary tables, cos and sin [L, D/2], or [B, L, D/2]. */
export function embedded(
  p: Parameters,
  config: GroupTransformerConfig,
  inputs: PlaceInputs,
  dropout: Dropout = (x) => x,
): Pick<RopeTransformerInputs, 'x' | 'cos' | 'sin'> {
  const headDim = config.dim / config.heads;
  const tables = ropeTables(config);
  const rows = (table: Float32Array) =>
    gather(inputs.positions.graph.constant(table, [config.tokens, headDim / 2]), inputs.positions);
  return { x: dropout(embed(p, config, inputs)), cos: rows(tables.cos), sin: rows(tables.sin) };
}

/** Class, token or special embedding of every place: [B, L, E]. */
function embed(p: Parameters, config: GroupTransformerConfig, { ids, kinds }: PlaceInputs): Value {
  const rows = (kind: number, table: string) => {
    const chosen = equal(kinds, kind); // [L] or [B, L]
    const found = gather(p(table), select(chosen, ids, 0)); // [B, L, E]
    return { chosen: reshape(chosen, [...kinds.shape, 1]), found };
  };
  const classes = rows(PlaceKind.class, 'cls_embedding.embedding_table.weight');
  const tokens = rows(PlaceKind.token, 'tok_embeddings.weight');
  const known = select(classes.chosen, classes.found, tokens.found);
  if (config.groupSize === 1) return known;
  const special = rows(PlaceKind.special, 'spe_tok_embeddings.special_embeddings.weight');
  return select(special.chosen, special.found, known);
}
