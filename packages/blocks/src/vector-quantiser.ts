import {
  extent,
  gather,
  l2Normalise,
  matmul,
  mul,
  reshape,
  sub,
  sum,
  topK,
  type Value,
} from '@detailflow/core';

/** Smallest norm that codes and vectors are divided by. */
export const NORM_EPSILON = 1e-12;

/** How vectors are compared with the rows of a codebook. */
export interface CodebookOptions {
  /** Compare and hand out unit vectors, as most quantisers do; otherwise rows as they are. Default true. */
  readonly isNormalised?: boolean;
}

/**
 * The rows of a codebook [K, d] that are nearest to vectors [B, n, d] by squared distance, of equal ones the first.
 * `options.count`: how many, nearest first; default 1.
 * @returns i32 [B, n, count]
 */
export function nearestCodes(
  vectors: Value,
  codebook: Value,
  { isNormalised = true, count = 1 }: CodebookOptions & { readonly count?: number } = {},
): Value {
  const normal = (x: Value) => (isNormalised ? l2Normalise(x, NORM_EPSILON) : x);
  const codes = normal(codebook);
  const products = matmul(normal(vectors), codes, { transposeB: true }); // [B, n, K]
  const lengths = reshape(sum(mul(codes, codes), [-1]), [extent(codes, 0)]);
  return topK(sub(mul(2, products), lengths), count);
}

/** The vectors of codes i32 [B, n]: [B, n, d]. */
export function codeVectors(
  codes: Value,
  codebook: Value,
  { isNormalised = true }: CodebookOptions = {},
): Value {
  const rows = gather(codebook, codes);
  return isNormalised ? l2Normalise(rows, NORM_EPSILON) : rows;
}
