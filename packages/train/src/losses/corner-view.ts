import { degradationResize, matmul, resizeMatrix, Tensor, type Value } from '@detailflow/core';

/**
 * The matrix [side, S] that cuts images of `size` pixels out of the top left corner of a canvas of S and brings them to `side` pixels, by
 * area where they are larger, else bicubically: see {@link viewed}.
 */
export function cornerView(side: number, { canvas, size }: { canvas: number; size: number }): Tensor {
  const matrix = resizeMatrix(degradationResize(size, side), size, side);
  const view = new Float32Array(side * canvas);
  for (let row = 0; row < side; row++) view.set(matrix.subarray(row * size, (row + 1) * size), row * canvas);
  return new Tensor('float32', view, [side, canvas]);
}

/** Images [B, C, S, S] through a {@link cornerView}: [B, C, side, side]. */
export const viewed = (images: Value, view: Value): Value =>
  matmul(view, matmul(images, view, { transposeB: true }));
