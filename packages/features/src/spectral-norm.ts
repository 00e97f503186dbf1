import { div, l2Normalise, matmul, mul, reshape, stopGradient, sum, type Value } from '@detailflow/core';

/** Smallest norm, as torch has it. */
const SMALLEST = 1e-12;

/**
 * A weight divided by its largest singular value, as far as power iteration has found it: one step from the vector `u`. Both singular
 * vectors are constants to the gradient.
 * @param weight [O, ...], as a matrix of O rows
 * @param u [O], of unit length
 * @returns the weight, and `u` after the step
 * Source: Miyato et al., "Spectral normalization for generative adversarial networks", 2018.
 */
export function spectralNorm(weight: Value, u: Value): { readonly weight: Value; readonly u: Value } {
  const [rows, ...rest] = weight.shape as number[];
  const matrix = reshape(weight, [rows, rest.reduce((a, b) => a * b, 1)]);
  const fixed = stopGradient(matrix);
  const right = l2Normalise(matmul(reshape(u, [1, rows]), fixed), SMALLEST); // [1, columns]
  const left = l2Normalise(matmul(right, fixed, { transposeB: true }), SMALLEST); // [1, O]
  const largest = sum(mul(matmul(right, matrix, { transposeB: true }), left), [0, 1]); // [1, 1]
  const shape = [1, ...rest.map(() => 1)];
  return { weight: div(weight, reshape(largest, shape)), u: reshape(left, [rows]) };
}
