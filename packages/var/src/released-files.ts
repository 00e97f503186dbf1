import type { ConfigObject, ReleasedFile } from '@detailflow/checkpoint';
import { type Weight, type Weights, weightFromArray } from '@detailflow/core';
import { allPlaces } from './scale-stepper';
import type { ScaleTransformerConfig } from './scale-transformer';
import { placesOf, type Scale, sameScale } from './scales';
import {
  FLEXVAR_SCALES,
  officialVarWeights,
  SCALES_256,
  type ScaleTokenizerConfig,
} from './var-tokenizer-config';

interface Half<Config> {
  readonly config: Config;
  readonly weights: Weights;
}

/** Settings of FlexVAR's sampler. */
export interface DrawingRules {
  readonly largestDrawn?: number;
  readonly invalidCodes?: readonly number[];
}

/** How many codes FlexVAR's tokenizer remembers. */
const RECENT_CODES = 65536;

/**
 * A model as VAR and FlexVAR release it: state dicts with the tables and masks that the official programs look for, which are
 * computed again; statistics of the training's codes are zeros. What the files do not say stands in a config.json beside them.
 */
export function releasedScaleFiles(
  tokenizer: Half<ScaleTokenizerConfig>,
  transformer: Half<ScaleTransformerConfig & DrawingRules> | undefined,
): ReleasedFile[] {
  const { config } = tokenizer;
  const isVar = config.coding === 'residual';
  return [
    isVar ? varTokenizerFile(tokenizer) : flexTokenizerFile(tokenizer),
    ...(transformer
      ? [
          {
            path: isVar ? `var_d${transformer.config.depth}.pth` : `FlexVARd${transformer.config.depth}.pth`,
            torch: withBuffers(transformer),
          },
        ]
      : []),
    { path: 'config.json', json: argumentsOf(config, transformer?.config) },
  ];
}

function varTokenizerFile({ config, weights }: Half<ScaleTokenizerConfig>): ReleasedFile {
  const { encoder, codebookSize, codeDim, scales } = config;
  const shape = [scales.length, codebookSize];
  const usage = zeros('quantize.ema_vocab_hit_SV', shape);
  return {
    path: `vae_ch${encoder.stem ?? encoder.channels[0]}v${codebookSize}z${codeDim}.pth`,
    torch: new Map([[usage.name, usage], ...officialVarWeights(weights)]),
  };
}

function flexTokenizerFile({ weights }: Half<ScaleTokenizerConfig>): ReleasedFile {
  const used = zeros('quantize.codebook_used', [RECENT_CODES]);
  return { path: 'FlexVAE.pth', torch: { model: new Map([[used.name, used], ...weights]) } };
}

/** The weights of a transformer and the buffers that belong to its official state dict. */
function withBuffers({ config, weights }: Half<ScaleTransformerConfig>): Weights {
  const { scales, depth, dim, positions } = config;
  const length = placesOf(scales);
  const { levels } = allPlaces(config);
  const buffers = [
    ...(positions === 'table' ? [integers('lvl_1L', [1, length], levels)] : []),
    weightFromArray('attn_bias_for_masking', [1, 1, length, length], maskOf(levels)),
    ...Array.from({ length: depth }, (_, i) => zeros(`blocks.${i}.attn.zero_k_bias`, [dim])),
  ];
  return new Map([...weights, ...buffers.map((one) => [one.name, one] as const)]);
}

/** 0 where a place sees another: those of its own scale and of all coarser ones; else -Infinity. */
function maskOf(levels: Int32Array): Float32Array {
  const { length } = levels;
  const mask = new Float32Array(length * length);
  for (let i = 0; i < length; i++) {
    for (let j = 0; j < length; j++)
      if (levels[j] > levels[i]) mask[i * length + j] = Number.NEGATIVE_INFINITY;
  }
  return mask;
}

function zeros(name: string, shape: readonly number[]): Weight {
  return weightFromArray(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
}

function integers(name: string, shape: readonly number[], values: Int32Array): Weight {
  return {
    ...{ name, dtype: 'i64', shape },
    read: async () => new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  };
}

function argumentsOf(
  { scales, refinement, coding, isCosine }: ScaleTokenizerConfig,
  transformer: (ScaleTransformerConfig & DrawingRules) | undefined,
): ConfigObject {
  const usual = coding === 'plain' ? FLEXVAR_SCALES : SCALES_256;
  const isUsual = scales.length === usual.length && scales.every((one, k) => sameScale(one, usual[k]));
  return {
    ...(coding === 'plain' && { system: 'flexvar' }),
    ...(!isUsual && { patch_nums: scales.map(listed) }),
    ...((refinement || isCosine) && {
      vae: { ...(refinement && { quant_resi: refinement.ratio }), ...(isCosine && { using_znorm: true }) },
    }),
    ...(transformer && {
      var: {
        ...{ num_heads: transformer.heads, norm_eps: transformer.normEpsilon },
        ...(transformer.largestDrawn !== undefined && { max_pn: transformer.largestDrawn }),
        ...(transformer.invalidCodes && { invalid_ids: transformer.invalidCodes }),
      },
    }),
  };
}

/** A scale as lists have it. */
const listed = ({ rows, columns }: Scale) => (rows === columns ? rows : [rows, columns]);
