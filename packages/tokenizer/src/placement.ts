import { DetailFlowError, resizeMatrix } from '@detailflow/core';

/**
 * The matrix [fullSide^2, grid^2] that gives the patches of a picture of side x side patches their positions when it
 * lies in the top left corner of fullSide x fullSide patches: the table of grid x grid positions, resized by
 * antialiased bilinear interpolation. Rows of patches outside the picture are zeros.
 * @throws DetailFlowError `invalid-argument` when the picture is larger than the whole
 */
export function placementMatrix(side: number, fullSide: number, grid: number): Float32Array {
  if (!(side <= fullSide)) {
    throw new DetailFlowError('invalid-argument', `${side} patches do not fit a side of ${fullSide}`);
  }
  const axis = resizeMatrix('bilinear-antialias', grid, side); // [side, grid]
  const matrix = new Float32Array(fullSide ** 2 * grid ** 2);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const at = (row * fullSide + column) * grid ** 2;
      for (let i = 0; i < grid ** 2; i++) {
        matrix[at + i] = axis[row * grid + Math.floor(i / grid)] * axis[column * grid + (i % grid)];
      }
    }
  }
  return matrix;
}
