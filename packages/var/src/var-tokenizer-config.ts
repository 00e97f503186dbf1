import {
  type ConvTowerConfig,
  convTowerConfig,
  convTowerParameters,
  strideOf,
  type WeightShapes,
} from '@detailflow/blocks';
import { DetailFlowError, type ParameterSpec, type Weights } from '@detailflow/core';
import { requireGrowing, type Scale } from './scales';

/** How the maps of VAR's scales are refined: phi(h) = (1 - r) h + r conv(h). */
export interface RefinementConfig {
  /** `shared`: some convolutions for all scales; `single`: one; `each`: one for every scale. */
  readonly kind: 'shared' | 'single' | 'each';
  /** Convolutions that there are, K. */
  readonly count: number;
  /** r; phi is the identity where it is 0. */
  readonly ratio: number;
}

/** Everything that determines the graphs of a multi-scale tokenizer. Source: docs/family/var.md sections 1 and 5. */
export interface ScaleTokenizerConfig {
  /** Scales of a full code, coarse to fine; the last one is the size of the encoder's map for a full image. */
  readonly scales: readonly Scale[];
  readonly encoder: ConvTowerConfig;
  readonly decoder: ConvTowerConfig;
  readonly codebookSize: number;
  /** Width of a code, z. */
  readonly codeDim: number;
  /** Side of the kernels before and after quantising. */
  readonly quantKernel: number;
  /**
   * `residual`: every scale codes what the coarser ones left over (VAR); `plain`: every scale codes the map itself, resized
   * (FlexVAR).
   */
  readonly coding: 'residual' | 'plain';
  /** Residual coding only. */
  readonly refinement?: RefinementConfig;
  /** Codes and latents are compared as unit vectors (FlexVAR); VAR compares them as they are. */
  readonly isNormalised: boolean;
  /** Codes are found by cosine similarity, and used as they are all the same (`using_znorm`; no released model). */
  readonly isCosine?: boolean;
}

/** Names, those of LlamaGen for the convolutions, and shapes of every weight. */
export function scaleTokenizerParameters(config: ScaleTokenizerConfig): ParameterSpec[] {
  const { encoder, decoder, codebookSize, codeDim, quantKernel, refinement } = config;
  const conv = (name: string, from: number, to: number, size: number) => [
    { name: `${name}.weight`, shape: [to, from, size, size] },
    { name: `${name}.bias`, shape: [to] },
  ];
  const isRefined = refinement !== undefined && refinement.ratio >= SMALLEST_RATIO;
  return [
    ...convTowerParameters('encoder', encoder),
    ...convTowerParameters('decoder', decoder),
    { name: 'quantize.embedding.weight', shape: [codebookSize, codeDim] },
    ...conv('quant_conv', encoder.latentChannels, codeDim, quantKernel),
    ...conv('post_quant_conv', codeDim, decoder.latentChannels, quantKernel),
    ...(isRefined
      ? Array.from({ length: refinement.count }, (_, j) =>
          conv(refinementName(refinement, j), codeDim, codeDim, 3),
        ).flat()
      : []),
  ];
}

/** Below this phi is the identity. */
export const SMALLEST_RATIO = 1e-6;

/** Name of convolution j of the refinement in the official state dict. */
export function refinementName({ kind }: RefinementConfig, j: number): string {
  if (kind === 'single') return 'quantize.quant_resi.qresi';
  return kind === 'shared' ? `quantize.quant_resi.qresi_ls.${j}` : `quantize.quant_resi.${j}`;
}

/** Which convolution refines scale k of S: the one whose tick lies nearest to k / (S - 1), of equal ones the first. */
export function refinementIndex({ kind, count }: RefinementConfig, k: number, scales: number): number {
  if (kind === 'single' || count === 1) return 0;
  const edge = 1 / (count === 4 ? 3 * count : 2 * count);
  const [start, stop] = [edge, 1 - edge];
  const step = (stop - start) / (count - 1);
  const at = scales === 1 ? 0 : k / (scales - 1);
  let best = 0;
  let shortest = Number.POSITIVE_INFINITY;
  for (let j = 0; j < count; j++) {
    const tick = j === count - 1 ? stop : start + j * step;
    const distance = Math.abs(tick - at);
    if (distance < shortest) [best, shortest] = [j, distance];
  }
  return best;
}

/** Statistics that checkpoints hold besides. */
export const ignoredScaleTokenizerWeights: readonly string[] = [
  'quantize.ema_vocab_hit_SV',
  'quantize.codebook_used',
];

/** Weights under the names of LlamaGen's convolutions: VAR has others for the same blocks. */
export function renamedVarWeights(weights: Weights): Weights {
  let levels = 0;
  while (levels < 64 && weights.has(`decoder.up.${levels}.block.0.conv1.weight`)) levels++;
  const rename = (name: string) =>
    name
      .replace(/^encoder\.down\.(\d+)\.block\./, 'encoder.conv_blocks.$1.res.')
      .replace(/^encoder\.down\.(\d+)\./, 'encoder.conv_blocks.$1.')
      .replace(/^decoder\.up\.(\d+)\.block\./, (_, i) => `decoder.conv_blocks.${levels - 1 - Number(i)}.res.`)
      .replace(/^decoder\.up\.(\d+)\./, (_, i) => `decoder.conv_blocks.${levels - 1 - Number(i)}.`)
      .replace(/^(encoder|decoder)\.mid\.block_(\d)\./, (_, half, i) => `${half}.mid.${2 * (Number(i) - 1)}.`)
      .replace(/^(encoder|decoder)\.mid\.attn_1\./, '$1.mid.1.');
  return renamed(weights, rename);
}

/** {@link renamedVarWeights} undone: weights under VAR's own names. */
export function officialVarWeights(weights: Weights): Weights {
  let levels = 0;
  while (levels < 64 && weights.has(`decoder.conv_blocks.${levels}.res.0.conv1.weight`)) levels++;
  const level = (i: string) => levels - 1 - Number(i);
  const rename = (name: string) =>
    name
      .replace(/^encoder\.conv_blocks\.(\d+)\.res\./, 'encoder.down.$1.block.')
      .replace(/^encoder\.conv_blocks\.(\d+)\./, 'encoder.down.$1.')
      .replace(/^decoder\.conv_blocks\.(\d+)\.res\./, (_, i) => `decoder.up.${level(i)}.block.`)
      .replace(/^decoder\.conv_blocks\.(\d+)\./, (_, i) => `decoder.up.${level(i)}.`)
      .replace(/^(encoder|decoder)\.mid\.1\./, '$1.mid.attn_1.')
      .replace(
        /^(encoder|decoder)\.mid\.([02])\./,
        (_, half, i) => `${half}.mid.block_${Number(i) / 2 + 1}.`,
      );
  return renamed(weights, rename);
}

function renamed(weights: Weights, rename: (name: string) => string): Weights {
  return new Map(
    [...weights].map(([old, weight]) => {
      const { dtype, shape, location, rounded } = weight;
      const name = rename(old);
      return [name, { name, dtype, shape, location, rounded, read: () => weight.read() }];
    }),
  );
}

/** What no file of a tokenizer says. */
export interface ScaleTokenizerSettings {
  readonly scales?: readonly Scale[];
  /** r of the refinement; default 0.5. */
  readonly refinementRatio?: number;
  /** See {@link ScaleTokenizerConfig.isCosine}. */
  readonly isCosine?: boolean;
}

const officialScales = (sides: readonly number[]): Scale[] =>
  sides.map((side) => ({ rows: side, columns: side }));
/** The list of the released 256-pixel models. */
export const SCALES_256: readonly Scale[] = officialScales([1, 2, 3, 4, 5, 6, 8, 10, 13, 16]);
/** The list of the released 512-pixel model. */
export const SCALES_512: readonly Scale[] = officialScales([1, 2, 3, 4, 6, 9, 13, 18, 24, 32]);
/** FlexVAR's list of ten steps, as evaluated. */
export const FLEXVAR_SCALES: readonly Scale[] = officialScales([1, 2, 3, 4, 5, 7, 10, 13, 16]);

/**
 * The sizes of a tokenizer, read off its weights (VAR's under {@link renamedVarWeights}).
 * @throws DetailFlowError `weights`; `config` for residual coding along scales that do not grow
 */
export function scaleTokenizerConfigOf(
  weights: WeightShapes,
  coding: 'residual' | 'plain',
  { scales, refinementRatio = 0.5, isCosine }: ScaleTokenizerSettings = {},
  { file }: { readonly file?: string } = {},
): ScaleTokenizerConfig {
  const shapeOf = (name: string, axes: number): readonly number[] => {
    const shape = weights.get(name)?.shape;
    if (shape?.length === axes) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, { file, entry: name });
  };
  const [codebookSize, codeDim] = shapeOf('quantize.embedding.weight', 2);
  const quantKernel = shapeOf('quant_conv.weight', 4)[2];
  const count = (prefix: string) => {
    let n = 0;
    while (n < 64 && weights.has(`${prefix}${n}.weight`)) n++;
    return n;
  };
  const kinds = [
    { kind: 'single' as const, count: weights.has('quantize.quant_resi.qresi.weight') ? 1 : 0 },
    { kind: 'shared' as const, count: count('quantize.quant_resi.qresi_ls.') },
    { kind: 'each' as const, count: count('quantize.quant_resi.') },
  ];
  const kind = kinds.find((one) => one.count > 0);
  const encoder = convTowerConfig('encoder', weights, { file });
  const decoder = convTowerConfig('decoder', weights, { file });
  if (strideOf(encoder) !== strideOf(decoder)) {
    throw new DetailFlowError(
      'config',
      `the encoder shrinks ${strideOf(encoder)} times, the decoder grows ${strideOf(decoder)} times`,
      { file },
    );
  }
  // Plain coding draws the picture of the last scale, whatever came before it.
  if (coding === 'residual') requireGrowing(scales ?? SCALES_256, file);
  return {
    scales: scales ?? (coding === 'plain' ? FLEXVAR_SCALES : SCALES_256),
    ...{ encoder, decoder, codebookSize, codeDim, quantKernel, coding },
    ...(coding === 'residual' && kind && { refinement: { ...kind, ratio: Math.abs(refinementRatio) } }),
    isNormalised: coding === 'plain',
    ...(isCosine && { isCosine }),
  };
}
