import { matmul, resizeMatrix, type Value } from '@detailflow/core';
import type { Scale } from './scales';

/** Resizes maps [B, C, h, w], axis by axis; equal sizes are left as they are. */
export function resizeMap(x: Value, to: Scale, kind: 'area' | 'bicubic'): Value {
  const [, , height, width] = x.shape as number[];
  const matrix = (from: number, size: number) =>
    x.graph.constant(resizeMatrix(kind, from, size), [size, from]);
  const narrowed = width === to.columns ? x : matmul(x, matrix(width, to.columns), { transposeB: true });
  return height === to.rows ? narrowed : matmul(matrix(height, to.rows), narrowed);
}
