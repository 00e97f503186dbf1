import {
  codeVectors,
  convDecoder,
  convEncoder,
  convolution,
  nearestCodes,
  type Parameters,
} from '@detailflow/blocks';
import { add, concat, mul, reshape, slice, sub, transpose, type Value } from '@detailflow/core';
import { resizeMap } from './resize-map';
import { places, type Scale, sameScale, scaleStarts } from './scales';
import {
  refinementIndex,
  refinementName,
  type ScaleTokenizerConfig,
  SMALLEST_RATIO,
} from './var-tokenizer-config';

// Shapes: B batch, z width of a code, p = rows x columns of a scale, L codes of all scales, H and W of the finest map.

/** Images [B, 3, h, w] -> the map that is coded, [B, z, H, W]. */
export const latentMap = (p: Parameters, config: ScaleTokenizerConfig, images: Value): Value =>
  convolution(p, 'quant_conv', convEncoder(p, config.encoder, images), {
    padding: (config.quantKernel - 1) / 2,
  });

/** A map [B, z, H, W] -> pixels, about [-1, 1], not clamped. */
export const mapPixels = (p: Parameters, config: ScaleTokenizerConfig, map: Value): Value =>
  convDecoder(
    p,
    config.decoder,
    convolution(p, 'post_quant_conv', map, { padding: (config.quantKernel - 1) / 2 }),
  );

/** The codes of all scales of a map [B, z, H, W]: i32 [B, L]. */
export const scaleCodes = (p: Parameters, config: ScaleTokenizerConfig, map: Value): Value =>
  scaleChoices(p, config, map).codes;

/** The codes of all scales of a map [B, z, H, W], i32 [B, L], and the vectors [B, L, z] that they were chosen for. */
export function scaleChoices(
  p: Parameters,
  config: ScaleTokenizerConfig,
  map: Value,
): { readonly codes: Value; readonly vectors: Value } {
  const codebook = p('quantize.embedding.weight');
  const { scales } = config;
  let rest = map;
  const rows = scales.map((scale, k) => {
    const small = resizeMap(rest, scale, 'area');
    const vectors = toRows(small); // [B, p, z]
    const nearest = nearestCodes(vectors, codebook, {
      isNormalised: config.isNormalised || config.isCosine === true,
    });
    const codes = reshape(nearest, vectors.shape.slice(0, 2));
    if (config.coding === 'residual' && k < scales.length - 1) {
      rest = sub(rest, refined(p, config, codeMap(p, config, codes, scale), k));
    }
    return { codes, vectors };
  });
  const all = (name: 'codes' | 'vectors') =>
    concat(
      rows.map((row) => row[name]),
      1,
    );
  return { codes: all('codes'), vectors: all('vectors') };
}

/** The codes i32 [B, p] of a scale as a map of their vectors [B, z, rows, columns]. */
export function codeMap(
  p: Parameters,
  config: ScaleTokenizerConfig,
  codes: Value,
  { rows, columns }: Scale,
): Value {
  const vectors = codeVectors(codes, p('quantize.embedding.weight'), config); // [B, p, z]
  return reshape(transpose(vectors, [0, 2, 1]), [vectors.shape[0], config.codeDim, rows, columns]);
}

/** Residual coding: what a scale's map adds, at the size of the finest one. */
export function refined(p: Parameters, config: ScaleTokenizerConfig, map: Value, k: number): Value {
  const { scales, refinement } = config;
  const last = scales[scales.length - 1];
  const h = sameScale(scales[k], last) ? map : resizeMap(map, last, 'bicubic');
  if (!refinement || refinement.ratio < SMALLEST_RATIO) return h;
  const name = refinementName(refinement, refinementIndex(refinement, k, scales.length));
  const convolved = convolution(p, name, h, { padding: 1 });
  return add(mul(h, 1 - refinement.ratio), mul(convolved, refinement.ratio));
}

/** The codes of scale k among those of all. */
export function codesOfScale(config: ScaleTokenizerConfig, codes: Value, k: number): Value {
  const start = scaleStarts(config.scales)[k];
  return slice(codes, 1, start, start + places(config.scales[k]));
}

/**
 * Residual coding: the sum of the first scales.
 * @param codes i32 [B, L]; those of scales that do not count may be anything
 * @param counts f32 [S], 1 for scales that count and 0 for the others; all count if omitted
 */
export function summedMap(p: Parameters, config: ScaleTokenizerConfig, codes: Value, counts?: Value): Value {
  return config.scales
    .map((scale, k) => {
      const part = refined(p, config, codeMap(p, config, codesOfScale(config, codes, k), scale), k);
      return counts ? mul(part, slice(counts, 0, k, k + 1)) : part;
    })
    .reduce((sum, part) => add(sum, part));
}

/**
 * What the transformer is fed with for every scale after the first, [B, L - p_0, z]: the picture so far, at the size of
 * the scale that comes next. Rows of a scale depend on the codes of coarser ones alone.
 */
export function scaleInputs(p: Parameters, config: ScaleTokenizerConfig, codes: Value): Value {
  const { scales, coding } = config;
  let sum: Value | undefined;
  const inputs = scales.slice(1).map((next, k) => {
    const map = codeMap(p, config, codesOfScale(config, codes, k), scales[k]);
    if (coding === 'plain') return toRows(resizeMap(map, next, 'bicubic'));
    const part = refined(p, config, map, k);
    sum = sum ? add(sum, part) : part;
    return toRows(resizeMap(sum, next, 'area'));
  });
  return concat(inputs, 1);
}

/** [B, z, rows, columns] -> [B, p, z]. */
export function toRows(map: Value): Value {
  const [batch, width, rows, columns] = map.shape;
  return transpose(reshape(map, [batch, width, (rows as number) * (columns as number)]), [0, 2, 1]);
}
