import {
  add,
  attention,
  cachedAttention,
  type Dim,
  extent,
  type GraphBuilder,
  HIDDEN,
  less,
  linear,
  mul,
  multiplyDims,
  type ParameterSpec,
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
import type { Parameters } from './parameters';

/** Sizes of the LLaMA-style transformer that DetailFlow, LlamaGen and PAR share. */
export interface RopeTransformerConfig {
  readonly dim: number;
  readonly layers: number;
  readonly heads: number;
  /** Key and value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Width of the SwiGLU layer. */
  readonly hiddenDim: number;
  readonly vocabularySize: number;
  readonly normEpsilon: number;
}

// Shapes: B rows (sequences), L places fed, N places in all, E dim, H heads, K key heads, D head dim, V vocabulary.

/** How the attention of one layer looks up keys and values: q [B, K, (H/K) L, D], k and v [B, K, L, D]. */
export type Attend = (layer: string, q: Value, k: Value, v: Value) => Value;

/** What adds to the sequence: a branch of a layer. */
export interface DropoutPlace {
  readonly layer: number;
  readonly branch: 'attention' | 'feed-forward';
}

/** What happens to what attention and feed-forward add, and, without a place, to the embedded sequence; each [B, L, E]. */
export type Dropout = (x: Value, place?: DropoutPlace) => Value;

/** What the transformer is fed with: rows, tables of rotary positions, and who sees whom. */
export interface RopeTransformerInputs {
  /** The embedded sequence [B, L, E]. */
  readonly x: Value;
  /** Rotary tables of the fed places [L, D/2], or of each row's own [B, L, D/2]; zeros in both makes q and k of a place vanish. */
  readonly cos: Value;
  readonly sin: Value;
  readonly attend: Attend;
  readonly dropout?: Dropout;
}

/** Logits [B, L, V] of the fed places. Source: docs/method.md section 4. */
export function ropeTransformer(
  p: Parameters,
  config: RopeTransformerConfig,
  { x: embedded, cos, sin, attend, dropout = (x) => x }: RopeTransformerInputs,
): Value {
  let x = embedded;
  for (let i = 0; i < config.layers; i++) {
    const layer = `layers.${i}`;
    const norm = (name: string, value: Value) =>
      rmsNorm(value, p(`${layer}.${name}.weight`), config.normEpsilon);
    const [q, k, v] = queryKeyValue(p, config, layer, norm('attention_norm', x), cos, sin);
    const mixed = mergeHeads(attend(layer, q, k, v), config, x);
    const attended = linear(mixed, p(`${layer}.attention.wo.weight`));
    x = add(x, dropout(attended, { layer: i, branch: 'attention' }));
    const fed = feedForward(p, `${layer}.feed_forward`, norm('ffn_norm', x));
    x = add(x, dropout(fed, { layer: i, branch: 'feed-forward' }));
  }
  return linear(rmsNorm(x, p('norm.weight'), config.normEpsilon), p('output.weight'));
}

/** Attention among the fed places: `visible` bool [L, L], row = query. */
export function maskedAttend(config: RopeTransformerConfig, visible: Value): Attend {
  const bias = groupedBias(select(visible, 0, HIDDEN), config.heads / config.kvHeads);
  return (_layer, q, k, v) => attention(q, k, v, { scale: scoreScale(config), bias });
}

/** Attention with a bias [B, L, P] of its own for every row, HIDDEN where a key is not seen. */
export function biasedAttend(config: RopeTransformerConfig, bias: Value): Attend {
  const [batch, rows, columns] = bias.shape;
  const repeats = config.heads / config.kvHeads;
  const zeros = bias.graph.constant(new Float32Array(repeats), [repeats, 1, 1]);
  const each = add(reshape(bias, [batch, 1, rows, columns]), zeros); // [B, H/K, L, P]
  const shaped = reshape(each, [batch, 1, multiplyDims(repeats, rows), columns]);
  return (_layer, q, k, v) => attention(q, k, v, { scale: scoreScale(config), bias: shaped });
}

/** Where the keys and values of earlier places are kept, and which of them are seen. */
export interface CachedAttendOptions {
  /** Rows B. */
  readonly batch: Dim;
  /** i32 [1]: the place of the first fed row; all places before it are seen. */
  readonly offset: Value;
  /** Places of the cache: so many, or i32 [N] that counts them from 0, where the cache grows from run to run. */
  readonly cache: number | Value;
  /** Bias [L] that hides some of the fed places from each other; all see all if omitted. */
  readonly freshBias?: Value;
}

/**
 * Attention to the fed places and all before them; keys and values of every place are kept in the states `layers.i.k`
 * and `layers.i.v` [B, K, N, D].
 */
export function cachedAttend(
  graph: GraphBuilder,
  config: RopeTransformerConfig,
  { batch, offset, cache: given, freshBias }: CachedAttendOptions,
): Attend {
  const { kvHeads, dim, heads } = config;
  const places = cachePlaces(graph, given);
  const cacheLength = extent(places, 0);
  const pastBias = select(less(places, offset), 0, HIDDEN); // [N]
  return (layer, q, k, v) => {
    const [pastK, pastV] = [k, v].map((rows, i) => {
      const name = `${layer}.${i === 0 ? 'k' : 'v'}`;
      const cache = graph.state(name, [batch, kvHeads, cacheLength, dim / heads]);
      graph.update(name, writeRows(cache, rows, offset, 2));
      return cache;
    });
    return cachedAttention(q, k, v, { scale: scoreScale(config), pastK, pastV, pastBias, freshBias });
  };
}

/** i32 [N]: 0 .. N - 1. */
const cachePlaces = (graph: GraphBuilder, cache: number | Value): Value =>
  typeof cache === 'number'
    ? graph.constant(
        Int32Array.from({ length: cache }, (_, i) => i),
        [cache],
        'i32',
      )
    : cache;

/** Names (those of the official state dicts) and shapes of the layers, the last norm and the output matrix. */
export function ropeTransformerParameters(config: RopeTransformerConfig): ParameterSpec[] {
  const { dim, hiddenDim, heads, kvHeads, vocabularySize } = config;
  const headDim = dim / heads;
  const layers = Array.from({ length: config.layers }, (_, i) => `layers.${i}`);
  return [
    ...layers.flatMap((layer) => [
      { name: `${layer}.attention_norm.weight`, shape: [dim] },
      { name: `${layer}.attention.wqkv.weight`, shape: [(heads + 2 * kvHeads) * headDim, dim] },
      { name: `${layer}.attention.wo.weight`, shape: [dim, dim] },
      { name: `${layer}.ffn_norm.weight`, shape: [dim] },
      { name: `${layer}.feed_forward.w1.weight`, shape: [hiddenDim, dim] },
      { name: `${layer}.feed_forward.w3.weight`, shape: [hiddenDim, dim] },
      { name: `${layer}.feed_forward.w2.weight`, shape: [dim, hiddenDim] },
    ]),
    { name: 'norm.weight', shape: [dim] },
    { name: 'output.weight', shape: [vocabularySize, dim] },
  ];
}

/** Queries [B, K, (H/K) L, D] (those of one key head together), keys and values [B, K, L, D]. */
function queryKeyValue(
  p: Parameters,
  config: RopeTransformerConfig,
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
  const turned = turn(headsOf(0, heads + kvHeads), cos, sin); // queries and keys
  const q = swapHeads(slice(turned, 2, 0, heads)); // [B, H, L, D]
  const k = swapHeads(slice(turned, 2, heads, heads + kvHeads));
  const v = swapHeads(headsOf(heads + kvHeads, kvHeads));
  return [reshape(q, [batch, kvHeads, multiplyDims(heads / kvHeads, length), headDim]), k, v];
}

/** Rotates x [B, L, H, D] by tables [L, D/2], or [B, L, D/2]: then all places of all rows lie one after the other. */
function turn(x: Value, cos: Value, sin: Value): Value {
  if (cos.shape.length === 2) return rope(x, cos, sin);
  const [batch, length, heads, width] = x.shape;
  const places = multiplyDims(batch, length);
  const flat = (table: Value) => reshape(table, [places, extent(table, -1)]);
  return reshape(rope(reshape(x, [1, places, heads, width]), flat(cos), flat(sin)), x.shape);
}

/** [B, K, (H/K) L, D] -> [B, L, E]. */
function mergeHeads(mixed: Value, { heads, dim }: RopeTransformerConfig, like: Value): Value {
  const [batch, length] = like.shape;
  return reshape(swapHeads(reshape(mixed, [batch, heads, length, dim / heads])), like.shape);
}

const feedForward = (p: Parameters, name: string, x: Value): Value =>
  linear(
    mul(silu(linear(x, p(`${name}.w1.weight`))), linear(x, p(`${name}.w3.weight`))),
    p(`${name}.w2.weight`),
  );

/** What scores are multiplied by. */
export const scoreScale = ({ dim, heads }: RopeTransformerConfig): number => 1 / Math.sqrt(dim / heads);

/** A bias [L, L] repeated for the query heads that share a key head: [(H/K) L, L]. */
function groupedBias(bias: Value, repeats: number): Value {
  if (repeats === 1) return bias;
  const [rows, columns] = bias.shape;
  const zeros = bias.graph.constant(new Float32Array(repeats), [repeats, 1, 1]);
  return reshape(add(bias, zeros), [multiplyDims(repeats, rows), columns]);
}
