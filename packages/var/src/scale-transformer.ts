import type { Parameters } from '@detailflow/blocks';
import {
  add,
  attention,
  cachedAttention,
  concat,
  type Dim,
  exp,
  extent,
  type GraphBuilder,
  gather,
  gelu,
  HIDDEN,
  l2Normalise,
  less,
  linear,
  mul,
  type ParameterSpec,
  reshape,
  select,
  silu,
  slice,
  standardise,
  swapHeads,
  type Value,
  writeRows,
} from '@detailflow/core';
import { placesOf, type Scale } from './scales';

/** Everything that determines the graph of a next-scale transformer. Source: docs/family/var.md sections 2 and 5. */
export interface ScaleTransformerConfig {
  readonly scales: readonly Scale[];
  readonly depth: number;
  readonly dim: number;
  readonly heads: number;
  /** Width of the feed-forward layer. */
  readonly hiddenDim: number;
  readonly vocabularySize: number;
  /** Width of the codes that are fed, z. */
  readonly codeDim: number;
  readonly classes: number;
  /** One modulation for all blocks, each with an offset of its own (VAR-d36). */
  readonly isShared: boolean;
  /** Queries and keys as unit vectors with a learned temperature. */
  readonly isNormalised: boolean;
  /** `table`: a row for each place and one for each level (VAR); `area`: a 32 x 32 map, shrunk to each scale (FlexVAR). */
  readonly positions: 'table' | 'area';
  readonly normEpsilon: number;
}

/** Side of FlexVAR's map of positions. */
export const POSITION_SIDE = 32;
/** Largest logarithm of the attention's temperature. */
const LARGEST_SCALE = Math.log(100);

// Shapes: B rows (sequences), l places fed, L places in all, C dim, H heads, D head dim, z code width, V vocabulary.

export interface ScaleInputs {
  /** i32 [B]: classes. */
  readonly labels: Value;
  /** f32 [B, l, z]: the picture so far at the size of this scale; anything where the first scale is fed. */
  readonly maps: Value;
  /** bool [l]: places of the first scale, which begin with the class. */
  readonly isFirst: Value;
  /** i32 [l]: the place among those of the first scale; 0 for others. */
  readonly firstPlaces: Value;
  /** i32 [l] places and levels of a table; or f32 [l, 32 * 32], how each place averages the map of positions. */
  readonly positions: { readonly places: Value; readonly levels: Value } | { readonly averages: Value };
}

type Attend = (block: number, q: Value, k: Value, v: Value) => Value;

/** What happens to what a block's attention and feed-forward layer add, [B, l, C]; in training whole rows are dropped. */
export type ScaleDropPath = (block: number, branch: 'attention' | 'feedForward', x: Value) => Value;

/** Logits [B, l, V] of the fed places. */
export function scaleTransformer(
  p: Parameters,
  config: ScaleTransformerConfig,
  inputs: ScaleInputs,
  attend: Attend,
  dropPath: ScaleDropPath = (_block, _branch, x) => x,
): Value {
  const { dim, depth, isShared, normEpsilon } = config;
  const batch = extent(inputs.labels, 0);
  const condition = gather(p('class_emb.weight'), inputs.labels); // [B, C]
  const modulation = (name: string, rows: number) =>
    reshape(linear(silu(condition), p(`${name}.weight`), p(`${name}.bias`)), [batch, rows, dim]);
  const row = (rows: Value, i: number) => slice(rows, 1, i, i + 1); // [B, 1, C]
  const shared = isShared ? modulation('shared_ada_lin.1', 6) : undefined;
  const modulated = (x: Value, scale: Value, shift: Value) =>
    add(mul(standardise(x, normEpsilon), add(scale, 1)), shift);

  let x = embed(p, config, inputs, condition); // [B, l, C]
  for (let i = 0; i < depth; i++) {
    const block = `blocks.${i}`;
    const six = shared
      ? add(shared, reshape(p(`${block}.ada_gss`), [1, 6, dim]))
      : modulation(`${block}.ada_lin.1`, 6);
    const [gamma1, gamma2, scale1, scale2, shift1, shift2] = [0, 1, 2, 3, 4, 5].map((j) => row(six, j));
    const mixed = mix(p, config, i, modulated(x, scale1, shift1), attend);
    x = add(x, dropPath(i, 'attention', mul(gamma1, mixed)));
    const hidden = gelu(
      linear(modulated(x, scale2, shift2), p(`${block}.ffn.fc1.weight`), p(`${block}.ffn.fc1.bias`)),
    );
    const wide = linear(hidden, p(`${block}.ffn.fc2.weight`), p(`${block}.ffn.fc2.bias`));
    x = add(x, dropPath(i, 'feedForward', mul(gamma2, wide)));
  }
  const [scale, shift] = [0, 1].map((j) => row(modulation('head_nm.ada_lin.1', 2), j));
  return linear(modulated(x, scale, shift), p('head.weight'), p('head.bias'));
}

/**
 * Attention of the fed places to themselves and all before them, by a cache in the states `blocks.i.k` and `.v`, of as many places
 * as `every` counts, i32 [N]; all of the sequence unless given.
 */
export function cachedScales(
  graph: GraphBuilder,
  config: ScaleTransformerConfig,
  {
    batch,
    offset,
    every = everyPlace(graph, config),
  }: { readonly batch: Dim; readonly offset: Value; readonly every?: Value },
): Attend {
  const length = extent(every, 0);
  const pastBias = select(less(every, offset), 0, HIDDEN); // [L]
  return (block, q, k, v) => {
    const [pastK, pastV] = [k, v].map((rows, i) => {
      const name = `blocks.${block}.${i === 0 ? 'k' : 'v'}`;
      const cache = graph.state(name, [batch, config.heads, length, config.dim / config.heads]);
      graph.update(name, writeRows(cache, rows, offset, 2));
      return cache;
    });
    return cachedAttention(q, k, v, { scale: 1, pastK, pastV, pastBias });
  };
}

/** i32 [L]: 0 .. L - 1. */
function everyPlace(graph: GraphBuilder, { scales }: ScaleTransformerConfig): Value {
  const length = placesOf(scales);
  return graph.constant(
    Int32Array.from({ length }, (_, i) => i),
    [length],
    'i32',
  );
}

/** Attention under a mask, for training: a place sees those of its own scale and of all coarser ones; `levels` i32 [L]. */
export function maskedScales(levels: Value): Attend {
  const length = extent(levels, 0);
  const isLater = less(reshape(levels, [length, 1]), reshape(levels, [1, length]));
  const bias = select(isLater, HIDDEN, 0);
  return (_block, q, k, v) => attention(q, k, v, { scale: 1, bias });
}

/** Names and shapes of every weight. */
export function scaleTransformerParameters(config: ScaleTransformerConfig): ParameterSpec[] {
  const { scales, depth, dim, heads, hiddenDim, vocabularySize, codeDim, classes, isShared, isNormalised } =
    config;
  const dense = (name: string, from: number, to: number): ParameterSpec[] => [
    { name: `${name}.weight`, shape: [to, from] },
    { name: `${name}.bias`, shape: [to] },
  ];
  const [first] = scales;
  const blocks = Array.from({ length: depth }, (_, i) => {
    const block = `blocks.${i}`;
    return [
      ...(isNormalised ? [{ name: `${block}.attn.scale_mul_1H11`, shape: [1, heads, 1, 1] }] : []),
      { name: `${block}.attn.q_bias`, shape: [dim] },
      { name: `${block}.attn.v_bias`, shape: [dim] },
      { name: `${block}.attn.mat_qkv.weight`, shape: [3 * dim, dim] },
      ...dense(`${block}.attn.proj`, dim, dim),
      ...dense(`${block}.ffn.fc1`, dim, hiddenDim),
      ...dense(`${block}.ffn.fc2`, hiddenDim, dim),
      ...(isShared
        ? [{ name: `${block}.ada_gss`, shape: [1, 1, 6, dim] }]
        : dense(`${block}.ada_lin.1`, dim, 6 * dim)),
    ];
  });
  const tables =
    config.positions === 'area'
      ? [{ name: 'pos_1LC', shape: [1, dim, POSITION_SIDE, POSITION_SIDE] }]
      : [
          { name: 'pos_1LC', shape: [1, placesOf(scales), dim] },
          { name: 'lvl_embed.weight', shape: [scales.length, dim] },
        ];
  return [
    { name: 'pos_start', shape: [1, first.rows * first.columns, dim] },
    ...tables,
    ...dense('word_embed', codeDim, dim),
    { name: 'class_emb.weight', shape: [classes + 1, dim] },
    ...(isShared ? dense('shared_ada_lin.1', dim, 6 * dim) : []),
    ...blocks.flat(),
    ...dense('head_nm.ada_lin.1', dim, 2 * dim),
    ...dense('head', dim, vocabularySize),
  ];
}

/** Tables and buffers that files hold besides and that can be computed. */
export const ignoredScaleWeights = ({ depth }: Pick<ScaleTransformerConfig, 'depth'>): readonly string[] => [
  'lvl_1L',
  'attn_bias_for_masking',
  ...Array.from({ length: depth }, (_, i) => `blocks.${i}.attn.zero_k_bias`),
];

function embed(p: Parameters, config: ScaleTransformerConfig, inputs: ScaleInputs, condition: Value): Value {
  const { labels, maps, isFirst, firstPlaces, positions } = inputs;
  const [batch, length] = [extent(labels, 0), extent(isFirst, 0)];
  const { dim, scales } = config;
  const words = linear(maps, p('word_embed.weight'), p('word_embed.bias')); // [B, l, C]
  const start = reshape(p('pos_start'), [scales[0].rows * scales[0].columns, dim]);
  const beginning = add(reshape(condition, [batch, 1, dim]), gather(start, firstPlaces)); // [B, l, C]
  const content = select(reshape(isFirst, [length, 1]), beginning, words);
  if ('averages' in positions) {
    const map = reshape(p('pos_1LC'), [dim, POSITION_SIDE * POSITION_SIDE]);
    return add(content, linear(positions.averages, map));
  }
  const table = reshape(p('pos_1LC'), [placesOf(scales), dim]);
  const place = add(gather(p('lvl_embed.weight'), positions.levels), gather(table, positions.places)); // [l, C]
  return add(content, place);
}

function mix(p: Parameters, config: ScaleTransformerConfig, i: number, x: Value, attend: Attend): Value {
  const { dim, heads, isNormalised } = config;
  const name = `blocks.${i}.attn`;
  const [batch, length] = x.shape;
  const headDim = dim / heads;
  const zeros = x.graph.constant(new Float32Array(dim), [dim]);
  const bias = concat([p(`${name}.q_bias`), zeros, p(`${name}.v_bias`)], 0);
  const joint = linear(x, p(`${name}.mat_qkv.weight`), bias); // [B, l, 3 C]
  const [q, k, v] = [0, 1, 2].map((j) =>
    swapHeads(reshape(slice(joint, -1, j * dim, (j + 1) * dim), [batch, length, heads, headDim])),
  ); // [B, H, l, D]
  const unit = (value: Value) => l2Normalise(value, 1e-12);
  const mixed = isNormalised
    ? attend(i, mul(unit(q), temperature(p(`${name}.scale_mul_1H11`))), unit(k), v)
    : attend(i, mul(q, 0.25 / Math.sqrt(headDim)), k, v);
  return linear(reshape(swapHeads(mixed), x.shape), p(`${name}.proj.weight`), p(`${name}.proj.bias`));
}

/** exp(min(s, log 100)). */
function temperature(logarithm: Value): Value {
  const isSmall = less(logarithm, LARGEST_SCALE);
  return exp(select(isSmall, logarithm, LARGEST_SCALE));
}
