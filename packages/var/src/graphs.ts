import { parameterAccess, strideOf } from '@detailflow/blocks';
import { type Graph, type GraphBuilder, maximum, neg, symbol, trace, type Value } from '@detailflow/core';
import { codeMap, latentMap, mapPixels, scaleCodes, scaleInputs, summedMap } from './scale-coding';
import {
  cachedScales,
  POSITION_SIDE,
  type ScaleInputs,
  type ScaleTransformerConfig,
  scaleTransformer,
  scaleTransformerParameters,
} from './scale-transformer';
import { places, placesOf, requireLargestLast, type Scale } from './scales';
import { type ScaleTokenizerConfig, scaleTokenizerParameters } from './var-tokenizer-config';

const batch = symbol('batch');

/**
 * Input: images f32 [B, 3, h, w] of the full size. Output: codes i32 [B, L].
 * @throws DetailFlowError `config` for a list whose last scale is not the largest: FlexVAR draws along it, and cannot encode
 */
export function scaleEncoderGraph(config: ScaleTokenizerConfig): Graph {
  requireLargestLast(config.scales);
  const stride = strideOf(config.encoder);
  const { rows, columns } = lastScale(config);
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const images = g.input('images', 'f32', [batch, 3, rows * stride, columns * stride]);
    return { codes: scaleCodes(p, config, latentMap(p, config, images)) };
  });
}

/** Residual coding. Inputs: codes i32 [B, L]; counts f32 [S], 1 for scales that count. Output: pixels in [-1, 1]. */
export function residualDecoderGraph(config: ScaleTokenizerConfig): Graph {
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const codes = g.input('codes', 'i32', [batch, placesOf(config.scales)]);
    const counts = g.input('counts', 'f32', [config.scales.length]);
    return { pixels: clamp(mapPixels(p, config, summedMap(p, config, codes, counts))) };
  });
}

/** Input: map f32 [B, z, H, W], the sum of the scales. Output: pixels in [-1, 1]. */
export function mapDecoderGraph(config: ScaleTokenizerConfig): Graph {
  const { rows, columns } = lastScale(config);
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const map = g.input('map', 'f32', [batch, config.codeDim, rows, columns]);
    return { pixels: clamp(mapPixels(p, config, map)) };
  });
}

/** Plain coding. Input: codes i32 [B, p] of one scale. Output: pixels of its size, about [-1, 1], not clamped. */
export function plainDecoderGraph(config: ScaleTokenizerConfig, scale: Scale): Graph {
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const codes = g.input('codes', 'i32', [batch, places(scale)]);
    return { pixels: mapPixels(p, config, codeMap(p, config, codes, scale)) };
  });
}

/** Input: codes i32 [B, L]. Output: maps f32 [B, L - p_0, z], see {@link scaleInputs}. At least two scales. */
export function scaleInputsGraph(config: ScaleTokenizerConfig): Graph {
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    return { maps: scaleInputs(p, config, g.input('codes', 'i32', [batch, placesOf(config.scales)])) };
  });
}

/** A step of the transformer: feeds as `ScaleInputs` has them, and offset i32 [1]. Output: logits f32 [B, l, V]. */
export const scaleStepGraph = (config: ScaleTransformerConfig): Graph => stepGraph(config);

/** As {@link scaleStepGraph} with a cache of as many places as the feed `cache` counts, i32 [N]. */
export const growingScaleStepGraph = (config: ScaleTransformerConfig): Graph =>
  stepGraph(config, (g) => g.input('cache', 'i32', [symbol('cache')]));

function stepGraph(config: ScaleTransformerConfig, every?: (g: GraphBuilder) => Value): Graph {
  const length = symbol('step');
  return trace((g) => {
    const positions: ScaleInputs['positions'] =
      config.positions === 'area'
        ? { averages: g.input('averages', 'f32', [length, POSITION_SIDE ** 2]) }
        : { places: g.input('places', 'i32', [length]), levels: g.input('levels', 'i32', [length]) };
    const inputs = {
      labels: g.input('labels', 'i32', [batch]),
      maps: g.input('maps', 'f32', [batch, length, config.codeDim]),
      isFirst: g.input('isFirst', 'bool', [length]),
      firstPlaces: g.input('firstPlaces', 'i32', [length]),
      positions,
    };
    const attend = cachedScales(g, config, {
      batch,
      offset: g.input('offset', 'i32', [1]),
      every: every?.(g),
    });
    const p = parameterAccess(g, scaleTransformerParameters(config));
    return { logits: scaleTransformer(p, config, inputs, attend) };
  });
}

const lastScale = ({ scales }: ScaleTokenizerConfig): Scale => scales[scales.length - 1];

/** To [-1, 1]. */
const clamp = (x: Value): Value => neg(maximum(neg(maximum(x, -1)), -1));
