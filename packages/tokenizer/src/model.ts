import {
  biasedLinear,
  codeVectors,
  nearestCodes as nearestRows,
  type Parameters,
  parameterAccess,
  patchify,
  positionEmbedding,
  siglipPatches,
  siglipTower,
} from '@detailflow/blocks';
import {
  add,
  addDims,
  broadcastTo,
  concat,
  type Dim,
  extent,
  type GraphBuilder,
  gather,
  HIDDEN,
  l2Normalise,
  matmul,
  mul,
  multiplyDims,
  reshape,
  select,
  slice,
  stopGradient,
  sub,
  sum,
  transpose,
  type Value,
} from '@detailflow/core';
import type { TokenizerConfig, TowerConfig } from './config';
import { tokenizerParameters } from './parameters';

export { type Parameters, patchify, positionEmbedding };

/** Access to the weights of a tokenizer inside a graph. */
export const tokenizerWeights = (graph: GraphBuilder, config: TokenizerConfig): Parameters =>
  parameterAccess(graph, tokenizerParameters(config));

/** Smallest norm that codes and latents are divided by. */
export const NORM_EPSILON = 1e-12;
/** Noisy tokens are drawn among this many nearest codes. */
export const NEAREST_CODES = 50;

// Shapes: B batch, h patches a side, P = h^2 patches, n latent tokens, L = P + n, E width, D width of a head.

/** The inverse of {@link patchify}. */
export function unpatchify(patches: Value, patchSize: number, side: Dim): Value {
  const batch = extent(patches, 0);
  const grid = reshape(patches, [batch, side, side, patchSize, patchSize, 3]);
  const ordered = transpose(grid, [0, 5, 1, 3, 2, 4]); // [B, 3, h, p, h, p]
  return reshape(ordered, [batch, 3, multiplyDims(side, patchSize), multiplyDims(side, patchSize)]);
}

/**
 * Positions of patches that lie anywhere: `places` [P, 16 * 16] says how a patch weighs the entries of the table; a row
 * of zeros is a patch without a position. See `placementMatrix`.
 */
export function placedEmbedding(p: Parameters, prefix: string, places: Value): Value {
  return matmul(places, p(`${prefix}.embeddings.position_embedding.weight`));
}

/** A tower of the tokenizer over x [B, L, E]; `bias` [L, L] hides keys. See `siglipTower` of `@detailflow/blocks`. */
export const tower = (
  p: Parameters,
  prefix: string,
  config: TowerConfig,
  x: Value,
  bias?: Value,
  onLayer?: (layer: number, x: Value) => void,
): Value => siglipTower(p, prefix, config, x, { bias, onLayer });

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
export function refinedLatents(
  p: Parameters,
  positions: Value,
  prefix: Value,
  isPrefix: Value,
  config: Pick<TokenizerConfig, 'normalisedCodebook'>,
): Value {
  const given = biasedLinear(p, 'refine_conv', stopGradient(codebookEntries(p, prefix, config))); // [B, n, E]
  const learned = gatherTokens(p('encoder.refined_tokens'), positions); // [1, n, E]
  return select(reshape(isPrefix, [extent(isPrefix, 0), 1]), given, learned);
}

/** Patches with their positions: [B, P, E]. */
export const embedPatches = (p: Parameters, config: TokenizerConfig, images: Value, resize: Value): Value =>
  siglipPatches(p, 'encoder.visual_model', config.encoder, images, resize);

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
export const preQuantise = (p: Parameters, latents: Value): Value => biasedLinear(p, 'quant_conv', latents);

/**
 * The nearest codes of h [B, n, d] by squared distance, of unit vectors unless the codebook is not normalised, nearest first:
 * i32 [B, n, min(50, K)].
 */
export function nearestCodes(p: Parameters, config: TokenizerConfig, h: Value): Value {
  const count = Math.min(NEAREST_CODES, config.codebookSize);
  return nearestRows(h, p('quantize.embedding.weight'), { count, isNormalised: isNormalised(config) });
}

/** Codes i32 [...] -> their vectors [..., d], of unit length unless the codebook is not normalised. */
export function codebookEntries(
  p: Parameters,
  codes: Value,
  config: Pick<TokenizerConfig, 'normalisedCodebook'>,
): Value {
  return codeVectors(codes, p('quantize.embedding.weight'), { isNormalised: isNormalised(config) });
}

/** Whether codes are compared and handed out as unit vectors (`codebook_l2_norm`). */
export const isNormalised = (config: Pick<TokenizerConfig, 'normalisedCodebook'>): boolean =>
  config.normalisedCodebook ?? true;

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
  inputs: {
    quantised: Value;
    positions: Value;
    embedding: Value;
    visible?: Value;
    /** Is shown the patches [B, P, E'] right after each layer, counted from 0. */
    onLayer?: (layer: number, patches: Value) => void;
  },
): Value {
  const { quantised, positions, embedding, visible, onLayer } = inputs;
  const latents = add(postQuantise(p, quantised), gatherTokens(p('decoder.latent_pos_embed'), positions));
  const blank = add(p('decoder.mask_token'), embedding); // [1, P, E']
  const [, count, width] = blank.shape;
  const patches = broadcastTo(blank, [extent(quantised, 0), count, width]);
  const sequence = concat([patches, latents], 1); // [B, L, E']
  const ofPatches = (x: Value) => slice(x, 1, 0, count);
  const bias = visible && maskBias(visible);
  const shown = onLayer && ((layer: number, x: Value) => onLayer(layer, ofPatches(x)));
  return ofPatches(tower(p, 'decoder.visual_model', config.decoder, sequence, bias, shown));
}

/** Unit vectors [B, n, d] -> the decoder's width [B, n, E']. */
export const postQuantise = (p: Parameters, quantised: Value): Value =>
  biasedLinear(p, 'post_quant_conv', quantised);

/** Patches [B, P, E'] -> pixels [B, 3, h p, h p]. */
export function toPixels(p: Parameters, config: TokenizerConfig, patches: Value, side: Dim): Value {
  return unpatchify(biasedLinear(p, 'decoder.to_pixel.model', patches), config.decoder.patchSize, side);
}

/** Rows of a learned table [1, N, E]: [1, n, E]. */
function gatherTokens(table: Value, positions: Value): Value {
  const [, tokens, width] = table.shape;
  return reshape(gather(reshape(table, [tokens, width]), positions), [1, extent(positions, 0), width]);
}
