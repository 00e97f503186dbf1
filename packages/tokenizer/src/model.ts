import {
  codeVectors,
  nearestCodes as nearestRows,
  type Parameters,
  parameterAccess,
} from '@detailflow/blocks';
import {
  add,
  addDims,
  attention,
  broadcastTo,
  concat,
  type Dim,
  extent,
  type GraphBuilder,
  gather,
  gelu,
  HIDDEN,
  l2Normalise,
  layerNorm,
  linear,
  matmul,
  mul,
  multiplyDims,
  reshape,
  select,
  slice,
  stopGradient,
  sub,
  sum,
  swapHeads,
  transpose,
  type Value,
} from '@detailflow/core';
import type { TokenizerConfig, TowerConfig } from './config';
import { tokenizerParameters } from './parameters';

export type { Parameters };

/** Access to the weights of a tokenizer inside a graph. */
export const tokenizerWeights = (graph: GraphBuilder, config: TokenizerConfig): Parameters =>
  parameterAccess(graph, tokenizerParameters(config));

/** Epsilon of every LayerNorm. */
const LAYER_NORM_EPSILON = 1e-6;
/** Smallest norm that codes and latents are divided by. */
export const NORM_EPSILON = 1e-12;
/** Noisy tokens are drawn among this many nearest codes. */
export const NEAREST_CODES = 50;

// Shapes: B batch, h patches a side, P = h^2 patches, n latent tokens, L = P + n, E width, D width of a head.

/** Images [B, 3, h p, h p] -> patches [B, P, p p 3] in row order; inside a patch (row, column, channel). */
export function patchify(images: Value, patchSize: number, side: Dim): Value {
  const batch = extent(images, 0);
  const grid = reshape(images, [batch, 3, side, patchSize, side, patchSize]);
  const ordered = transpose(grid, [0, 2, 4, 3, 5, 1]); // [B, h, h, p, p, 3]
  return reshape(ordered, [batch, multiplyDims(side, side), 3 * patchSize * patchSize]);
}

/** The inverse of {@link patchify}. */
export function unpatchify(patches: Value, patchSize: number, side: Dim): Value {
  const batch = extent(patches, 0);
  const grid = reshape(patches, [batch, side, side, patchSize, patchSize, 3]);
  const ordered = transpose(grid, [0, 5, 1, 3, 2, 4]); // [B, 3, h, p, h, p]
  return reshape(ordered, [batch, 3, multiplyDims(side, patchSize), multiplyDims(side, patchSize)]);
}

/** The table of position embeddings resized to h x h by a matrix [h, 16] on each axis: [P, E]. */
export function positionEmbedding(p: Parameters, prefix: string, tower: TowerConfig, resize: Value): Value {
  const { positionGrid, width } = tower;
  const side = extent(resize, 0);
  const table = reshape(p(`${prefix}.embeddings.position_embedding.weight`), [
    positionGrid,
    positionGrid * width,
  ]);
  const rows = reshape(matmul(resize, table), [side, positionGrid, width]); // [h, 16, E]
  return reshape(matmul(resize, rows), [multiplyDims(side, side), width]); // [h, h, E] as [P, E]
}

/**
 * The same for patches that lie anywhere: `places` [P, 16 * 16] says how a patch weighs the entries of the table; a row
 * of zeros is a patch without a position. See `placementMatrix`.
 */
export function placedEmbedding(p: Parameters, prefix: string, places: Value): Value {
  return matmul(places, p(`${prefix}.embeddings.position_embedding.weight`));
}

/** Pre-norm transformer over x [B, L, E], then post_layernorm. `bias` [L, L] hides keys. */
export function tower(p: Parameters, prefix: string, config: TowerConfig, x: Value, bias?: Value): Value {
  for (let i = 0; i < config.layers; i++) {
    const layer = `${prefix}.encoder.layers.${i}`;
    x = add(x, selfAttention(p, `${layer}.self_attn`, config, norm(p, `${layer}.layer_norm1`, x), bias));
    const hidden = gelu(project(p, `${layer}.mlp.fc1`, norm(p, `${layer}.layer_norm2`, x)));
    x = add(x, project(p, `${layer}.mlp.fc2`, hidden));
  }
  return norm(p, `${prefix}.post_layernorm`, x);
}

function selfAttention(
  p: Parameters,
  prefix: string,
  { width, heads }: TowerConfig,
  x: Value,
  bias?: Value,
): Value {
  const [batch, length] = x.shape;
  const headDim = width / heads;
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((name) =>
    swapHeads(reshape(project(p, `${prefix}.${name}`, x), [batch, length, heads, headDim])),
  ); // [B, heads, L, D]
  const mixed = swapHeads(attention(q, k, v, { scale: 1 / Math.sqrt(headDim), bias })); // [B, L, heads, D]
  return project(p, `${prefix}.out_proj`, reshape(mixed, x.shape));
}

const norm = (p: Parameters, name: string, x: Value): Value =>
  layerNorm(x, p(`${name}.weight`), p(`${name}.bias`), LAYER_NORM_EPSILON);

const project = (p: Parameters, name: string, x: Value): Value =>
  linear(x, p(`${name}.weight`), p(`${name}.bias`));

/** A visibility mask (bool) as an addition to the attention scores. */
const maskBias = (visible: Value): Value => select(visible, 0, HIDDEN);

/** The first latent tokens that `positions` (i32 [n]) names: [1, n, E]. */
export function initialLatents(p: Parameters, positions: Value): Value {
  return gatherTokens(p('encoder.latent_tokens'), positions);
}

/**
 * Latents of the second pass: where `isPrefix` (bool [n]) the given codes (i32 [B, n]), brought back to the
 * encoder's width, elsewhere the learned tokens that repair them: [B, n, E].
 */
export function refinedLatents(p: Parameters, positions: Value, prefix: Value, isPrefix: Value): Value {
  const given = project(p, 'refine_conv', stopGradient(codebookEntries(p, prefix))); // [B, n, E]
  const learned = gatherTokens(p('encoder.refined_tokens'), positions); // [1, n, E]
  return select(reshape(isPrefix, [extent(isPrefix, 0), 1]), given, learned);
}

/** Patches with their positions: [B, P, E]. */
export function embedPatches(p: Parameters, config: TokenizerConfig, images: Value, resize: Value): Value {
  const patches = patchify(images, config.encoder.patchSize, extent(resize, 0));
  const embedded = project(p, 'encoder.visual_model.embeddings.patch_embedding', patches);
  return add(embedded, positionEmbedding(p, 'encoder.visual_model', config.encoder, resize));
}

/**
 * The encoder tower over [patches ; latents + position].
 * Inputs: `patches` [B, P, E] of {@link embedPatches}; `latents` [1 or B, n, E]; `positions` i32 [n]; `visible` bool [L, L], all
 * see all if omitted.
 * @returns the tower's output, cut into patches [B, P, E] and latents [B, n, E]
 */
export function encoderTower(
  p: Parameters,
  config: TokenizerConfig,
  inputs: { patches: Value; latents: Value; positions: Value; visible?: Value },
): { patches: Value; latents: Value } {
  const { patches, positions, visible } = inputs;
  const [batch, count, width] = patches.shape;
  const tokens = extent(positions, 0);
  const placed = add(inputs.latents, gatherTokens(p('encoder.latent_pos_embed'), positions));
  const sequence = concat([patches, broadcastTo(placed, [batch, tokens, width])], 1); // [B, L, E]
  const out = tower(p, 'encoder.visual_model', config.encoder, sequence, visible && maskBias(visible));
  const length = addDims(count, tokens);
  return { patches: slice(out, 1, 0, count), latents: slice(out, 1, count, length) };
}

/** Latents [B, n, E] -> what is quantised, [B, n, d], not normalised. */
export const preQuantise = (p: Parameters, latents: Value): Value => project(p, 'quant_conv', latents);

/** The nearest codes of h [B, n, d] by squared distance of unit vectors, nearest first: i32 [B, n, min(50, K)]. */
export function nearestCodes(p: Parameters, config: TokenizerConfig, h: Value): Value {
  const count = Math.min(NEAREST_CODES, config.codebookSize);
  return nearestRows(h, p('quantize.embedding.weight'), { count });
}

/** Codes i32 [...] -> their unit vectors [..., d]. */
export function codebookEntries(p: Parameters, codes: Value): Value {
  return codeVectors(codes, p('quantize.embedding.weight'));
}

/** Mean cosine of two different tokens of one group: [1, 1, 1, 1]. n must be known. */
export function groupSimilarity(quantised: Value, groupSize: number): Value {
  const [batch, tokens, width] = quantised.shape as number[];
  const groups = reshape(l2Normalise(quantised, NORM_EPSILON), [batch, tokens / groupSize, groupSize, width]);
  const cosines = matmul(groups, groups, { transposeB: true }); // [B, M, g, g]
  const self = sum(mul(groups, groups), [0, 1, 2, 3]); // the diagonal
  const pairs = batch * tokens * (groupSize - 1);
  return mul(sub(sum(cosines, [0, 1, 2, 3]), self), 1 / pairs);
}

/**
 * Unit vectors of the first n tokens -> the patches of an image of h x h patches.
 * Inputs: `quantised` [B, n, d], such as {@link codebookEntries} gives; `positions` i32 [n], 0..n-1; `embedding`, positions of
 * the patches [P, E'], from {@link positionEmbedding} or {@link placedEmbedding}; `visible` bool [L, L], all see all if omitted.
 * @returns patches after post_layernorm [B, P, E']
 */
export function decoderTower(
  p: Parameters,
  config: TokenizerConfig,
  inputs: { quantised: Value; positions: Value; embedding: Value; visible?: Value },
): Value {
  const { quantised, positions, embedding, visible } = inputs;
  const latents = add(postQuantise(p, quantised), gatherTokens(p('decoder.latent_pos_embed'), positions));
  const blank = add(p('decoder.mask_token'), embedding); // [1, P, E']
  const [, count, width] = blank.shape;
  const patches = broadcastTo(blank, [extent(quantised, 0), count, width]);
  const sequence = concat([patches, latents], 1); // [B, L, E']
  const out = tower(p, 'decoder.visual_model', config.decoder, sequence, visible && maskBias(visible));
  return slice(out, 1, 0, count);
}

/** Unit vectors [B, n, d] -> the decoder's width [B, n, E']. */
export const postQuantise = (p: Parameters, quantised: Value): Value =>
  project(p, 'post_quant_conv', quantised);

/** Patches [B, P, E'] -> pixels [B, 3, h p, h p]. */
export function toPixels(p: Parameters, config: TokenizerConfig, patches: Value, side: Dim): Value {
  return unpatchify(project(p, 'decoder.to_pixel.model', patches), config.decoder.patchSize, side);
}

/** Rows of a learned table [1, N, E]: [1, n, E]. */
function gatherTokens(table: Value, positions: Value): Value {
  const [, tokens, width] = table.shape;
  return reshape(gather(reshape(table, [tokens, width]), positions), [1, extent(positions, 0), width]);
}
