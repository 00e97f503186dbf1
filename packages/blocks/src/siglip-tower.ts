import {
  add,
  attention,
  type Dim,
  extent,
  gelu,
  layerNorm,
  matmul,
  multiplyDims,
  type ParameterSpec,
  reshape,
  swapHeads,
  transpose,
  type Value,
} from '@detailflow/core';
import { biasedLinear, weightAndBias } from './biased-linear';
import type { Parameters } from './parameters';

/** Sizes of a transformer tower of SigLIP2 (NaFlex form). */
export interface SiglipTowerConfig {
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly mlpWidth: number;
  /** Side of the square table of position embeddings (16 in all released models). */
  readonly positionGrid: number;
}

/** Epsilon of every LayerNorm. */
const LAYER_NORM_EPSILON = 1e-6;

// Shapes: B batch, h patches a side, P = h^2 patches, L places of a sequence, E width, D width of a head.

/** Images [B, 3, h p, h p] -> patches [B, P, p p 3] in row order; inside a patch (row, column, channel). */
export function patchify(images: Value, patchSize: number, side: Dim): Value {
  const batch = extent(images, 0);
  const grid = reshape(images, [batch, 3, side, patchSize, side, patchSize]);
  const ordered = transpose(grid, [0, 2, 4, 3, 5, 1]); // [B, h, h, p, p, 3]
  return reshape(ordered, [batch, multiplyDims(side, side), 3 * patchSize * patchSize]);
}

/** The table of position embeddings resized to h x h by a matrix [h, grid] on each axis: [P, E]. */
export function positionEmbedding(
  p: Parameters,
  prefix: string,
  { positionGrid, width }: Pick<SiglipTowerConfig, 'positionGrid' | 'width'>,
  resize: Value,
): Value {
  const side = extent(resize, 0);
  const table = reshape(p(`${prefix}.embeddings.position_embedding.weight`), [
    positionGrid,
    positionGrid * width,
  ]);
  const rows = reshape(matmul(resize, table), [side, positionGrid, width]); // [h, grid, E]
  return reshape(matmul(resize, rows), [multiplyDims(side, side), width]); // [h, h, E] as [P, E]
}

/** Images -> patches with their positions [B, P, E]. */
export function siglipPatches(
  p: Parameters,
  prefix: string,
  config: SiglipTowerConfig & { readonly patchSize: number },
  images: Value,
  resize: Value,
): Value {
  const patches = patchify(images, config.patchSize, extent(resize, 0));
  const embedded = biasedLinear(p, `${prefix}.embeddings.patch_embedding`, patches);
  return add(embedded, positionEmbedding(p, prefix, config, resize));
}

/**
 * Pre-norm transformer over x [B, L, E], then post_layernorm.
 * `bias` [L, L] hides keys; `onLayer` is shown the residual stream [B, L, E] right after each layer, counted from 0
 * Source: docs/method.md section 3.
 */
export function siglipTower(
  p: Parameters,
  prefix: string,
  config: Omit<SiglipTowerConfig, 'positionGrid'>,
  x: Value,
  { bias, onLayer }: { readonly bias?: Value; readonly onLayer?: (layer: number, x: Value) => void } = {},
): Value {
  for (let i = 0; i < config.layers; i++) {
    const layer = `${prefix}.encoder.layers.${i}`;
    x = add(x, selfAttention(p, `${layer}.self_attn`, config, norm(p, `${layer}.layer_norm1`, x), bias));
    const hidden = gelu(biasedLinear(p, `${layer}.mlp.fc1`, norm(p, `${layer}.layer_norm2`, x)));
    x = add(x, biasedLinear(p, `${layer}.mlp.fc2`, hidden));
    onLayer?.(i, x);
  }
  return siglipPostNorm(p, prefix, x);
}

/** The last norm of a tower. */
export const siglipPostNorm = (p: Parameters, prefix: string, x: Value): Value =>
  norm(p, `${prefix}.post_layernorm`, x);

/** Names and shapes of a tower's weights, without those of the patch embedding. */
export function siglipTowerParameters(
  prefix: string,
  { width, mlpWidth, layers, positionGrid }: SiglipTowerConfig,
): ParameterSpec[] {
  const specs: ParameterSpec[] = [
    { name: `${prefix}.embeddings.position_embedding.weight`, shape: [positionGrid ** 2, width] },
  ];
  for (let i = 0; i < layers; i++) {
    const layer = `${prefix}.encoder.layers.${i}`;
    specs.push(
      ...weightAndBias(`${layer}.layer_norm1`, [width]),
      ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((name) =>
        weightAndBias(`${layer}.self_attn.${name}`, [width, width]),
      ),
      ...weightAndBias(`${layer}.layer_norm2`, [width]),
      ...weightAndBias(`${layer}.mlp.fc1`, [mlpWidth, width]),
      ...weightAndBias(`${layer}.mlp.fc2`, [width, mlpWidth]),
    );
  }
  return [...specs, ...weightAndBias(`${prefix}.post_layernorm`, [width])];
}

/** Names and shapes of a tower with its patch embedding. */
export const siglipVisionParameters = (
  prefix: string,
  config: SiglipTowerConfig & { readonly patchSize: number },
): ParameterSpec[] => [
  ...weightAndBias(`${prefix}.embeddings.patch_embedding`, [config.width, 3 * config.patchSize ** 2]),
  ...siglipTowerParameters(prefix, config),
];

function selfAttention(
  p: Parameters,
  prefix: string,
  { width, heads }: Pick<SiglipTowerConfig, 'width' | 'heads'>,
  x: Value,
  bias?: Value,
): Value {
  const [batch, length] = x.shape;
  const headDim = width / heads;
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((name) =>
    swapHeads(reshape(biasedLinear(p, `${prefix}.${name}`, x), [batch, length, heads, headDim])),
  ); // [B, heads, L, D]
  const mixed = swapHeads(attention(q, k, v, { scale: 1 / Math.sqrt(headDim), bias })); // [B, L, heads, D]
  return biasedLinear(p, `${prefix}.out_proj`, reshape(mixed, x.shape));
}

const norm = (p: Parameters, name: string, x: Value): Value =>
  layerNorm(x, p(`${name}.weight`), p(`${name}.bias`), LAYER_NORM_EPSILON);
