import {
  codeVectors,
  convDecoder,
  convEncoder,
  convolution,
  nearestCodes,
  type Parameters,
  parameterAccess,
  strideOf,
} from '@detailflow/blocks';
import { type Graph, reshape, symbol, trace, transpose, type Value } from '@detailflow/core';
import { type VqConfig, vqParameters } from './vq-config';

const batch = symbol('batch');

/** Rows and columns of a grid of codes. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
}

// Shapes: B batch, f pixels a code covers in each direction, n = rows columns codes, d width of a code.

/** Input: images f32 [B, 3, rows f, columns f] in [-1, 1]. Outputs: codes i32 [B, n] in row order; latents [B, n, d]. */
export function vqEncoderGraph(config: VqConfig, { rows, columns }: Grid): Graph {
  const stride = strideOf(config.encoder);
  return trace((g) => {
    const p = parameterAccess(g, vqParameters(config));
    const images = g.input('images', 'f32', [batch, 3, rows * stride, columns * stride]);
    const latents = vqLatents(p, config, images);
    const nearest = nearestCodes(latents, p('quantize.embedding.weight'), config); // [B, n, 1]
    return { codes: reshape(nearest, [batch, rows * columns]), latents };
  });
}

/** Input: codes i32 [B, n]. Output: pixels f32 [B, 3, rows f, columns f], about [-1, 1]. */
export function vqDecoderGraph(config: VqConfig, { rows, columns }: Grid): Graph {
  return trace((g) => {
    const p = parameterAccess(g, vqParameters(config));
    const codes = g.input('codes', 'i32', [batch, rows * columns]);
    const vectors = codeVectors(codes, p('quantize.embedding.weight'), config); // [B, n, d]
    return { pixels: vqPixels(p, config, vectors, { rows, columns }) };
  });
}

/** Images -> what is quantised, [B, n, d], not normalised. */
export function vqLatents(p: Parameters, config: VqConfig, images: Value): Value {
  const map = convolution(p, 'quant_conv', convEncoder(p, config.encoder, images)); // [B, d, rows, columns]
  const [size, width, rows, columns] = map.shape;
  return transpose(reshape(map, [size, width, (rows as number) * (columns as number)]), [0, 2, 1]);
}

/** Code vectors [B, n, d] -> pixels. */
export function vqPixels(p: Parameters, config: VqConfig, vectors: Value, { rows, columns }: Grid): Value {
  const [size, , width] = vectors.shape;
  const map = reshape(transpose(vectors, [0, 2, 1]), [size, width, rows, columns]);
  return convDecoder(p, config.decoder, convolution(p, 'post_quant_conv', map));
}
