/** Columns that are summed over before moving on, and rows of y that are met meanwhile: together they stay in the cache. */
const DEPTH = 256;
const ROWS = 48;

export interface RowSumsOptions {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Only entries on and below the diagonal are wanted; others may be left out. */
  readonly lowerOnly?: boolean;
  /** Row i of x is zero before column i. */
  readonly isUpper?: boolean;
}

/**
 * Adds X Y^T in float64: X [rows, depth], Y [columns, depth], the result [rows, columns]. Three by three sums at a time
 * stay in registers.
 */
export function addRowSums(
  into: Float64Array,
  x: Float64Array,
  y: Float64Array,
  { rows, columns, depth, lowerOnly = false, isUpper = false }: RowSumsOptions,
): void {
  for (let k0 = 0; k0 < depth; k0 += DEPTH) {
    const k1 = Math.min(depth, k0 + DEPTH);
    const lastRow = isUpper ? Math.min(rows, k1) : rows;
    for (let j0 = 0; j0 < columns; j0 += ROWS) {
      const j1 = Math.min(columns, j0 + ROWS);
      for (let i = lowerOnly ? j0 - (j0 % 3) : 0; i < lastRow; i += 3) {
        const [i1, i2] = [Math.min(i + 1, rows - 1), Math.min(i + 2, rows - 1)];
        const end = lowerOnly ? Math.min(j1, i2 + 1) : j1;
        for (let j = j0; j < end; j += 3) {
          const [j1st, j2nd] = [Math.min(j + 1, columns - 1), Math.min(j + 2, columns - 1)];
          const [a, b, c] = [i * depth, i1 * depth, i2 * depth];
          const [d, e, f] = [j * depth, j1st * depth, j2nd * depth];
          let [s00, s01, s02, s10, s11, s12, s20, s21, s22] = [0, 0, 0, 0, 0, 0, 0, 0, 0];
          for (let k = k0; k < k1; k++) {
            const p = x[a + k];
            const q = x[b + k];
            const r = x[c + k];
            const u = y[d + k];
            const v = y[e + k];
            const w = y[f + k];
            s00 += p * u;
            s01 += p * v;
            s02 += p * w;
            s10 += q * u;
            s11 += q * v;
            s12 += q * w;
            s20 += r * u;
            s21 += r * v;
            s22 += r * w;
          }
          const [hasSecond, hasThird] = [j + 1 < j1, j + 2 < j1];
          let at = i * columns + j;
          into[at] += s00;
          if (hasSecond) into[at + 1] += s01;
          if (hasThird) into[at + 2] += s02;
          if (i + 1 >= rows) continue;
          at += columns;
          into[at] += s10;
          if (hasSecond) into[at + 1] += s11;
          if (hasThird) into[at + 2] += s12;
          if (i + 2 >= rows) continue;
          at += columns;
          into[at] += s20;
          if (hasSecond) into[at + 1] += s21;
          if (hasThird) into[at + 2] += s22;
        }
      }
    }
  }
}
