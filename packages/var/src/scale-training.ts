import type { Parameters } from '@detailflow/blocks';
import {
  add,
  concat,
  DetailFlowError,
  extent,
  logSoftmax,
  mul,
  neg,
  reshape,
  select,
  slice,
  stopGradient,
  straightThrough,
  sum,
  takeAlong,
  type Value,
} from '@detailflow/core';
import { meanSquaredError } from '@detailflow/core/losses';
import { codeMap, codesOfScale, latentMap, mapPixels, refined, scaleChoices } from './scale-coding';
import { allPlaces, positionAverages } from './scale-stepper';
import {
  maskedScales,
  type ScaleDropPath,
  type ScaleInputs,
  type ScaleTransformerConfig,
  scaleTransformer,
} from './scale-transformer';
import { placesOf } from './scales';
import type { ScaleTokenizerConfig } from './var-tokenizer-config';

// Shapes: B rows, z width of a code, L codes of all scales, l of those that are trained, V vocabulary.

/** What the transformer is fed with in training. */
export interface ScaleForwardInputs {
  /** i32 [B]: classes; the number of classes for none. */
  readonly labels: Value;
  /** f32 [B, L - p_0, z]: what every scale after the first is fed with, see `scaleInputs`. */
  readonly maps: Value;
  /** bool [B] for each block after the first and each of its two branches, in this order: rows that are kept. */
  readonly keep?: readonly Value[];
  /** What is dropped of branches, in place of `keep` and its rate. */
  readonly dropPath?: ScaleDropPath;
}

/** Dropped paths, and how many scales are trained. */
export interface ScaleForwardOptions {
  /** Rate at which the last block drops rows; that of block b is a b / (depth - 1)-th of it. Default 0. */
  readonly dropPathRate?: number;
  /** Only so many scales are fed (progressive training). Default: all. */
  readonly trainedScales?: number;
}

/** How logits and codes become a loss. */
export interface ScaleLossOptions extends ScaleForwardOptions {
  /** Share of the target that is spread over all codes. Default 0. */
  readonly labelSmoothing?: number;
  /** Factor of the newest scale's weight, from 0 to 1, while it is warmed up. Default 1. */
  readonly newestWeight?: number;
}

/** Logits [B, l, V] of all places of the trained scales at once. Source: docs/family/var.md sections 2 and 4. */
export function scaleForward(
  p: Parameters,
  config: ScaleTransformerConfig,
  { labels, maps, keep, dropPath: given }: ScaleForwardInputs,
  { dropPathRate = 0, trainedScales = config.scales.length }: ScaleForwardOptions = {},
): Value {
  const { graph } = labels;
  const { codeDim } = config;
  const scales = config.scales.slice(0, trainedScales);
  const [first, length] = [placesOf(scales.slice(0, 1)), placesOf(scales)];
  const batch = extent(labels, 0);
  if (typeof batch !== 'number') {
    throw new DetailFlowError('shape', 'scaleForward: the number of rows must be known');
  }
  const at = allPlaces({ scales });
  const row = (data: Int32Array) => graph.constant(data, [length], 'i32');
  const levels = row(at.levels);
  const positions: ScaleInputs['positions'] =
    config.positions === 'table'
      ? { places: row(at.places), levels }
      : {
          averages: concat(
            scales.map((scale) => {
              const { data, dims } = positionAverages(scale);
              return graph.constant(data, dims);
            }),
            0,
          ),
        };
  const blank = graph.constant(new Float32Array(batch * first * codeDim), [batch, first, codeDim]);
  const inputs: ScaleInputs = {
    ...{ labels, positions, firstPlaces: row(at.firstPlaces) },
    maps: length > first ? concat([blank, slice(maps, 1, 0, length - first)], 1) : blank,
    isFirst: graph.constant(at.isFirst, [length], 'bool'),
  };
  const dropPath = given ?? (keep && droppedRows(config, keep, dropPathRate));
  return scaleTransformer(p, config, inputs, maskedScales(levels), dropPath);
}

/**
 * The loss of a training step, [1]: over every row the sum of the places' cross-entropy, each weighing 1 / L of all scales,
 * and the mean over the rows; positionLoss [l] is the mean of every place. Source: docs/family/var.md section 4.
 * @param inputs.codes i32 [B, L]
 */
export function scaleLoss(
  p: Parameters,
  config: ScaleTransformerConfig,
  inputs: ScaleForwardInputs & { readonly codes: Value },
  options: ScaleLossOptions = {},
): { readonly loss: Value; readonly positionLoss: Value; readonly logits: Value } {
  const { labelSmoothing = 0, newestWeight = 1, trainedScales = config.scales.length } = options;
  const scales = config.scales.slice(0, trainedScales);
  const logits = scaleForward(p, config, inputs, options);
  const [batch, length, size] = logits.shape as number[];
  const logs = logSoftmax(logits);
  const targets = reshape(slice(inputs.codes, 1, 0, length), [batch, length, 1]);
  const picked = reshape(takeAlong(logs, targets), [batch, length]);
  const spread = reshape(sum(logs, [-1]), [batch, length]);
  const likelihood = add(mul(picked, 1 - labelSmoothing), mul(spread, labelSmoothing / size));
  const older = placesOf(scales.slice(0, -1));
  const each = 1 / (batch * placesOf(config.scales));
  const weights = Float32Array.from({ length }, (_, i) => each * (i < older ? 1 : newestWeight));
  const weighted = mul(likelihood, logits.graph.constant(weights, [length]));
  const positionLoss = mul(reshape(sum(likelihood, [0]), [length]), -1 / batch);
  return { loss: neg(sum(reshape(weighted, [batch * length]), [0])), positionLoss, logits };
}

/** Keeps whole rows of what a branch adds, divided by the rate at which they are kept. The first block drops nothing. */
function droppedRows(config: ScaleTransformerConfig, keep: readonly Value[], rate: number): ScaleDropPath {
  const { depth } = config;
  if (keep.length !== 2 * (depth - 1)) {
    throw new DetailFlowError(
      'invalid-argument',
      `keep has ${keep.length} lists of rows; give ${2 * (depth - 1)}, two for each block after the first`,
    );
  }
  return (block, branch, x) => {
    if (block === 0) return x;
    const rows = keep[2 * (block - 1) + (branch === 'attention' ? 0 : 1)];
    const kept = reshape(rows, [extent(rows, 0), 1, 1]);
    return select(kept, mul(x, 1 / (1 - (rate * block) / (depth - 1))), 0);
  };
}

/** The losses of {@link scaleTokenizerLosses}. */
export interface ScaleTokenizerLosses {
  /** Each [1]: the mean squared error of the pixels; what pulls codes and phi to the map, and the map to its codes. */
  readonly reconstruction: Value;
  readonly codebook: Value;
  readonly commit: Value;
  /** The last two together, and all three. */
  readonly vq: Value;
  readonly loss: Value;
  /** i32 [B, L], and the vectors [B, L, z] that they were chosen for. */
  readonly codes: Value;
  readonly vectors: Value;
  /** f32 [B, 3, h, w], not clamped. */
  readonly pixels: Value;
}

/**
 * A training step of VAR's tokenizer up to its losses. The published code has no such script: this is its model's
 * training forward. Source: docs/family/var.md section 1.
 * `options.commitBeta`: weight of what pulls the encoder to the codes; default 0.25.
 * @param images f32 [B, 3, h, w] of the full size
 */
export function scaleTokenizerLosses(
  p: Parameters,
  config: ScaleTokenizerConfig,
  images: Value,
  { commitBeta = 0.25 }: { readonly commitBeta?: number } = {},
): ScaleTokenizerLosses {
  if (config.coding !== 'residual') {
    throw new DetailFlowError('invalid-argument', 'these are the losses of residual coding (VAR)');
  }
  const { scales } = config;
  const map = latentMap(p, config, images);
  const { codes, vectors } = scaleChoices(p, config, stopGradient(map));
  let total: Value | undefined;
  const parts = scales.map((scale, k) => {
    const part = refined(p, config, codeMap(p, config, codesOfScale(config, codes, k), scale), k);
    total = total ? add(total, part) : part;
    return {
      commit: meanSquaredError(stopGradient(total), map),
      codebook: meanSquaredError(total, stopGradient(map)),
    };
  });
  const mean = (name: 'commit' | 'codebook', factor: number) =>
    mul(parts.map((part) => part[name]).reduce(add), factor / scales.length);
  const [codebook, commit] = [mean('codebook', 1), mean('commit', commitBeta)];
  const vq = add(codebook, commit);
  const pixels = mapPixels(p, config, straightThrough(total as Value, map));
  const reconstruction = meanSquaredError(pixels, images);
  const loss = add(reconstruction, vq);
  return { reconstruction, codebook, commit, vq, loss, codes, vectors, pixels };
}

/** Labels of a training step: one becomes "no class" where its draw from [0, 1) is below the rate, 0.1 officially. */
export function droppedLabels(
  labels: ArrayLike<number>,
  draws: ArrayLike<number>,
  { classes, rate = 0.1 }: { readonly classes: number; readonly rate?: number },
): Int32Array {
  return Int32Array.from(labels, (label, i) => (draws[i] < rate ? classes : label));
}
