/** A cell of a grid; `undefined` for a place whose query and key vanish. */
export type Cell = { readonly row: number; readonly column: number } | undefined;

/**
 * Tables of the two-dimensional rotary embedding, cos and sin, each [places, D/2] for head width D: the first half of
 * the pairs turns by the row, the second by the column; pair q of a half by base^(-4q/D) a step. A place without a cell
 * has zeros in both tables, so its query and key vanish. Source: docs/method.md section 4.
 */
export function gridRotation(
  cells: readonly Cell[],
  { headDim, ropeBase }: { readonly headDim: number; readonly ropeBase: number },
): { cos: Float32Array; sin: Float32Array } {
  const pairs = headDim / 2;
  const cos = new Float32Array(cells.length * pairs);
  const sin = new Float32Array(cells.length * pairs);
  for (const [place, cell] of cells.entries()) {
    if (!cell) continue;
    for (let pair = 0; pair < pairs; pair++) {
      const [steps, q] = pair < pairs / 2 ? [cell.row, pair] : [cell.column, pair - pairs / 2];
      const angle = steps * ropeBase ** ((-4 * q) / headDim);
      cos[place * pairs + pair] = Math.cos(angle);
      sin[place * pairs + pair] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
