import {
  add,
  attention,
  cachedAttention,
  DetailFlowError,
  equal,
  extent,
  type GraphBuilder,
  gather,
  HIDDEN,
  less,
  linear,
  mul,
  multiplyDims,
  reshape,
  rmsNorm,
  rope,
  select,
  silu,
  slice,
  swapHeads,
  type Value,
  writeRows,
} from '@detailflow/core';
import type { TokenModelConfig } from './config';
import { tokenModelParameters } from './parameters';
import { PlaceKind, ropeTables } from './positions';

/** A weight by its name in the official state dict. */
export type Parameters = (name: string) => Value;

/** Access to the weights of an AR model inside a graph. */
export function tokenModelWeights(graph: GraphBuilder, config: TokenModelConfig): Parameters {
  const shapes = new Map(tokenModelParameters(config).map(({ name, shape }) => [name, shape]));
  return (name) => {
    const shape = shapes.get(name);
    if (!shape) throw new DetailFlowError('weights', 'the configuration has no such weight', { entry: name });
    return graph.weight(name, shape);
  };
}

// Shapes: B rows (sequences), L places fed, N places in all, E dim, H heads, K key heads, D head dim, V vocabulary.

/** What is fed at L places. */
export interface PlaceInputs {
  /** i32 [B, L]: class, token or number of the special embedding, by kind. */
  readonly ids: Value;
  /** i32 [L]: see {@link PlaceKind}. */
  readonly kinds: Value;
  /** i32 [L]: places in the sequence, ascending. */
  readonly positions: Value;
}

/** How the attention of one layer looks up keys and values: q [B, K, R, D], k and v [B, K, L, D]. */
type Attend = (layer: string, q: Value, k: Value, v: Value) => Value;

/** What happens to the embedded sequence and to what attention and feed-forward add, each [B, L, E]. */
export type Dropout = (x: Value) => Value;

/**
 * Logits of all fed places at once, for training and for checking the cache.
 * @param inputs.visible bool [L, L]
 * @param inputs.dropout none if omitted
 * @returns logits [B, L, V]
 */
export function forward(
  p: Parameters,
  config: TokenModelConfig,
  inputs: PlaceInputs & { readonly visible: Value; readonly dropout?: Dropout },
): Value {
  const { heads, kvHeads } = config;
  const bias = groupedBias(select(inputs.visible, 0, HIDDEN), heads / kvHeads);
  const attend: Attend = (_layer, q, k, v) => attention(q, k, v, { scale: scoreScale(config), bias });
  return transformer(p, config, inputs, attend, inputs.dropout);
}

export interface StepOptions {
  /** Bias [L] that hides some of the fed places from each other; all see all if omitted. */
  readonly freshBias?: Value;
  /** Places of the cache: N unless said. */
  readonly cacheLength?: number;
}

/**
 * Logits of the fed places, which see each other and all places before them; keys and values of every place are
 * kept in the states `layers.i.k` and `layers.i.v` [B, K, N, D].
 * @returns logits [B, L, V]
 */
export function step(
  graph: GraphBuilder,
  p: Parameters,
  config: TokenModelConfig,
  inputs: PlaceInputs,
  { freshBias, cacheLength = config.tokens }: StepOptions = {},
): Value {
  const { kvHeads, dim, heads } = config;
  const batch = extent(inputs.ids, 0);
  const offset = slice(inputs.positions, 0, 0, 1); // [1]
  const places = graph.constant(
    Int32Array.from({ length: cacheLength }, (_, i) => i),
    [cacheLength],
    'i32',
  );
  const pastBias = select(less(places, offset), 0, HIDDEN); // [N]
  const attend: Attend = (layer, q, k, v) => {
    const [pastK, pastV] = [k, v].map((rows, i) => {
      const name = `${layer}.${i === 0 ? 'k' : 'v'}`;
      const cache = graph.state(name, [batch, kvHeads, cacheLength, dim / heads]);
      graph.update(name, writeRows(cache, rows, offset, 2));
      return cache;
    });
    return cachedAttention(q, k, v, { scale: scoreScale(config), pastK, pastV, pastBias, freshBias });
  };
  return transformer(p, config, inputs, attend);
}

function transformer(
  p: Parameters,
  config: TokenModelConfig,
  inputs: PlaceInputs,
  attend: Attend,
  dropout: Dropout = (x) => x,
): Value {
  const { cos, sin } = rotation(config, inputs.positions);
  let x = dropout(embed(p, config, inputs)); // [B, L, E]
  for (let i = 0; i < config.layers; i++) {
    const layer = `layers.${i}`;
    const norm = (name: string, value: Value) =>
      rmsNorm(value, p(`${layer}.${name}.weight`), config.normEpsilon);
    const [q, k, v] = queryKeyValue(p, config, layer, norm('attention_norm', x), cos, sin);
    const mixed = mergeHeads(attend(layer, q, k, v), config, x);
    x = add(x, dropout(linear(mixed, p(`${layer}.attention.wo.weight`))));
    x = add(x, dropout(feedForward(p, `${layer}.feed_forward`, norm('ffn_norm', x))));
  }
  return linear(rmsNorm(x, p('norm.weight'), config.normEpsilon), p('output.weight'));
}

/** Class, token or special embedding of every place: [B, L, E]. */
function embed(p: Parameters, config: TokenModelConfig, { ids, kinds }: PlaceInputs): Value {
  const length = extent(kinds, 0);
  const rows = (kind: number, table: string) => {
    const chosen = equal(kinds, kind); // [L]
    const found = gather(p(table), select(chosen, ids, 0)); // [B, L, E]
    return { chosen: reshape(chosen, [length, 1]), found };
  };
  const classes = rows(PlaceKind.class, 'cls_embedding.embedding_table.weight');
  const tokens = rows(PlaceKind.token, 'tok_embeddings.weight');
  const known = select(classes.chosen, classes.found, tokens.found);
  if (config.groupSize === 1) return known;
  const special = rows(PlaceKind.special, 'spe_tok_embeddings.special_embeddings.weight');
  return select(special.chosen, special.found, known);
}

/** Rotary tables of the fed places: cos and sin [L, D/2]. */
function rotation(config: TokenModelConfig, positions: Value): { cos: Value; sin: Value } {
  const tables = ropeTables(config);
  const shape = [config.tokens, config.dim / config.heads / 2];
  const rows = (table: Float32Array) => gather(positions.graph.constant(table, shape), positions);
  return { cos: rows(tables.cos), sin: rows(tables.sin) };
}

/** Queries [B, K, (H/K) L, D] (those of one key head together), keys and values [B, K, L, D]. */
function queryKeyValue(
  p: Parameters,
  config: TokenModelConfig,
  layer: string,
  x: Value,
  cos: Value,
  sin: Value,
): [Value, Value, Value] {
  const { heads, kvHeads, dim } = config;
  const [batch, length] = x.shape;
  const headDim = dim / heads;
  const joint = linear(x, p(`${layer}.attention.wqkv.weight`)); // [B, L, (H + 2K) D]
  const headsOf = (from: number, count: number) =>
    reshape(slice(joint, -1, from * headDim, (from + count) * headDim), [batch, length, count, headDim]);
  const turned = rope(headsOf(0, heads + kvHeads), cos, sin); // queries and keys
  const q = swapHeads(slice(turned, 2, 0, heads)); // [B, H, L, D]
  const k = swapHeads(slice(turned, 2, heads, heads + kvHeads));
  const v = swapHeads(headsOf(heads + kvHeads, kvHeads));
  return [reshape(q, [batch, kvHeads, multiplyDims(heads / kvHeads, length), headDim]), k, v];
}

/** [B, K, (H/K) L, D] -> [B, L, E]. */
function mergeHeads(mixed: Value, { heads, dim }: TokenModelConfig, like: Value): Value {
  const [batch, length] = like.shape;
  return reshape(swapHeads(reshape(mixed, [batch, heads, length, dim / heads])), like.shape);
}

const feedForward = (p: Parameters, name: string, x: Value): Value =>
  linear(
    mul(silu(linear(x, p(`${name}.w1.weight`))), linear(x, p(`${name}.w3.weight`))),
    p(`${name}.w2.weight`),
  );

const scoreScale = ({ dim, heads }: TokenModelConfig): number => 1 / Math.sqrt(dim / heads);

/** A bias [L, L] repeated for the query heads that share a key head: [(H/K) L, L]. */
function groupedBias(bias: Value, repeats: number): Value {
  if (repeats === 1) return bias;
  const [rows, columns] = bias.shape;
  const zeros = bias.graph.constant(new Float32Array(repeats), [repeats, 1, 1]);
  return reshape(add(bias, zeros), [multiplyDims(repeats, rows), columns]);
}
