import { type Parameters, type VitConfig, vitConfigOf, vitFeatures, vitParameters } from '@detailflow/blocks';
import {
  add,
  broadcastTo,
  DetailFlowError,
  div,
  gather,
  l2Normalise,
  linear,
  matmul,
  mean,
  mul,
  type ParameterSpec,
  reshape,
  silu,
  stopGradient,
  sub,
  sum,
  transpose,
  type Value,
  type Weights,
} from '@detailflow/core';
import { meanOfAll } from '@detailflow/core/losses';
import type { SoftVqConfig } from './config';
import type { TowerSizes } from './towers';

/** How latents and features are matched: means of both, features pooled to the latents, pooled after a shuffle, or each latent for a run of patches. */
export type Alignment = 'global' | 'avg_1d' | 'avg_1d_shuffle' | 'repeat';

/** Sizes of the alignment loss (REPA). */
export interface AlignmentConfig {
  /** The frozen network. */
  readonly network: VitConfig;
  /** Inner width of the projection. */
  readonly projectionDim: number;
  readonly latentDim: number;
}

/**
 * Reads the sizes off weights `repa_model.*` and `projection.*`.
 * @throws DetailFlowError `weights` or `config`
 */
export function alignmentConfigOf(
  weights: Weights,
  { imageSize, latentDim }: SoftVqConfig,
  {
    heads,
    patchSize,
    file,
  }: Pick<TowerSizes, 'heads'> & { readonly patchSize: number; readonly file?: string },
): AlignmentConfig {
  const network = vitConfigOf(weights, NETWORK, { imageSize, patchSize, heads }, { file });
  const projectionDim = weights.get('projection.0.weight')?.shape[0];
  if (projectionDim === undefined) {
    throw new DetailFlowError('weights', 'there is no such weight', { file, entry: 'projection.0.weight' });
  }
  return { network, projectionDim, latentDim };
}

const NETWORK = 'repa_model.';

/** Names and shapes of the weights of the alignment loss. */
export function alignmentParameters({ network, projectionDim, latentDim }: AlignmentConfig): ParameterSpec[] {
  const matrix = (name: string, out: number, into: number) => [
    { name: `${name}.weight`, shape: [out, into] },
    { name: `${name}.bias`, shape: [out] },
  ];
  return [
    ...vitParameters(NETWORK, network),
    ...matrix('projection.0', projectionDim, latentDim),
    ...matrix('projection.2', projectionDim, projectionDim),
    ...matrix('projection.4', network.width, projectionDim),
  ];
}

const IMAGE_MEAN = [0.485, 0.456, 0.406];
const IMAGE_DEVIATION = [0.229, 0.224, 0.225];

/** Images [B, 3, S, S] in [-1, 1] -> features of the frozen network, [B, P', F], without gradient. */
export function alignmentFeatures(p: Parameters, { network }: AlignmentConfig, images: Value): Value {
  const perChannel = (values: readonly number[]) =>
    images.graph.constant(Float64Array.from(values), [1, 3, 1, 1]);
  const unit = mul(add(images, 1), 0.5);
  const normal = div(sub(unit, perChannel(IMAGE_MEAN)), perChannel(IMAGE_DEVIATION));
  return stopGradient(vitFeatures(p, NETWORK, network, normal));
}

/**
 * The alignment loss: -weight times the mean cosine of projected latents [B, L, d] and features [B, P', F]; [1].
 * `options.permutation`: i32 [P'], for `avg_1d_shuffle`: which patch comes first, second, ...
 */
export function alignmentLoss(
  p: Parameters,
  latents: Value,
  features: Value,
  {
    kind,
    weight,
    permutation,
  }: { readonly kind: Alignment; readonly weight: number; readonly permutation?: Value },
): Value {
  const [projected, target] = matched(p, latents, features, kind, permutation);
  const unit = (x: Value) => l2Normalise(x, 1e-12);
  return mul(-weight, meanOfAll(sum(mul(unit(projected), unit(target)), [-1])));
}

function matched(
  p: Parameters,
  latents: Value,
  features: Value,
  kind: Alignment,
  permutation?: Value,
): readonly [Value, Value] {
  const [batch, tokens] = latents.shape as number[];
  const [, patches, width] = features.shape as number[];
  if (kind === 'global') return [project(p, mean(latents, 1)), mean(features, 1)];
  if (kind === 'repeat') {
    if (patches % tokens !== 0) {
      throw new DetailFlowError('config', `${patches} patches cannot be divided among ${tokens} latents`);
    }
    const each = reshape(project(p, latents), [batch, tokens, 1, width]);
    const repeated = broadcastTo(each, [batch, tokens, patches / tokens, width]);
    return [reshape(repeated, [batch, patches, width]), features];
  }
  if (kind === 'avg_1d') return [project(p, latents), pooled(features, tokens)];
  if (!permutation)
    throw new DetailFlowError('invalid-argument', 'the alignment "avg_1d_shuffle" needs a permutation');
  const shuffled = transpose(gather(transpose(features, [1, 0, 2]), permutation), [1, 0, 2]);
  return [project(p, latents), pooled(shuffled, tokens)];
}

function project(p: Parameters, x: Value): Value {
  const layer = (index: number, y: Value) =>
    linear(y, p(`projection.${index}.weight`), p(`projection.${index}.bias`));
  return layer(4, silu(layer(2, silu(layer(0, x)))));
}

/** Adaptive means over P' places: place i of L gets those from floor(i P' / L) to ceil((i + 1) P' / L). */
function pooled(features: Value, tokens: number): Value {
  const patches = features.shape[1] as number;
  const shares = new Float64Array(tokens * patches);
  for (let i = 0; i < tokens; i++) {
    const start = Math.floor((i * patches) / tokens);
    const end = Math.ceil(((i + 1) * patches) / tokens);
    shares.fill(1 / (end - start), i * patches + start, i * patches + end);
  }
  return matmul(features.graph.constant(shares, [tokens, patches]), features);
}
