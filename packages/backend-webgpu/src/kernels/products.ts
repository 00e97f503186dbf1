import { Kernel } from '../kernel';
import { THREADS } from './gathering';
import { type Access, pointwiseParts } from './pointwise';

/** Rows and columns of the result that a workgroup makes, and how far it reads along the inner axis at a time. */
export const TILE = 16;
const DEPTH = 32;
/** Rows of a tile in shared memory lie apart by this, so that threads read different banks. */
const PITCH = DEPTH + 1;

/** What a kernel of products computes. */
export interface ProductsSource {
  /** WGSL over v0, v1, ..., for an element of the result. */
  readonly expression: string;
  /** How operands are read that are not products. */
  readonly accesses: readonly (Access | 'product')[];
  readonly rank: number;
  /** Whether the right operands are [columns, inner]. */
  readonly transposeB: boolean;
  /** Whether rows of the left operand are divided by their root mean square and multiplied by weights. */
  readonly isNorm: boolean;
}

/** Uniforms of products before those of the expression: tiles are those across, and all. */
export const productUniforms = (isNorm: boolean): string[] => [
  ...['rows : i32', 'columns : i32', 'inner : i32', 'across : i32', 'tiles : i32'],
  ...(isNorm ? ['epsilon : f32'] : []),
];

/** WGSL of what is done with an element of all products. */
export const finishProducts = (made: readonly number[], body: string): string => `
fn finish(isTile: bool, row: i32, column: i32, ${made.map((k) => `v${k}: f32`).join(', ')}) {
  if (!isTile || row >= uniforms.rows || column >= uniforms.columns) { return; }
  let index = row * uniforms.columns + column;
  ${body}
}`;

/**
 * Products of one matrix [rows, inner] by others for not too many rows, and an expression of them. A workgroup makes a tile of all
 * products. Inputs: the left operand, the weights of its norm, the right operands, then what else the expression reads;
 * uniforms: rows, columns, inner, tiles across, tiles, epsilon where there is a norm, then those of the expression.
 */
export function productsKernel({ expression, accesses, rank, transposeB, isNorm }: ProductsSource): Kernel {
  const { functions, inputs, uniforms, body } = pointwiseParts(expression, accesses, rank);
  const made = accesses.flatMap((access, k) => (access === 'product' ? [k] : []));
  const eachMade = (write: (k: number) => string) => made.map(write).join('\n');
  const corners = [0, 1, 2, 3];
  const right = (k: number) =>
    `R${k}(${transposeB ? 'column * uniforms.inner + k' : 'k * uniforms.columns + column'})`;
  const finish = (corner: number) => {
    const found = made.map((k) => `p${k}_${corner}${isNorm ? ` / root${corner >> 1}` : ''}`);
    return `finish(isTile, row + ${(corner >> 1) * 8}, column + ${(corner & 1) * 8}, ${found.join(', ')});`;
  };
  return new Kernel({
    inputs: ['L', ...(isNorm ? ['scales'] : []), ...made.map((k) => `R${k}`), ...inputs],
    uniforms: [...productUniforms(isNorm), ...uniforms],
    code: `${functions}
var<workgroup> left: array<f32, ${TILE * PITCH}>;
${eachMade((k) => `var<workgroup> right${k}: array<f32, ${TILE * PITCH}>;`)}
${finishProducts(made, body)}
fn main(thread: i32) {
  let lane = thread % ${THREADS};
  let isTile = thread / ${THREADS} < uniforms.tiles;
  let tile = min(thread / ${THREADS}, uniforms.tiles - 1);
  let firstRow = (tile / uniforms.across) * ${TILE};
  let firstColumn = (tile % uniforms.across) * ${TILE};
  let down = (lane / 8) * ${PITCH};
  let along = (lane % 8) * ${PITCH};
  ${eachMade((k) => corners.map((corner) => `var p${k}_${corner} = 0.0;`).join(' '))}
  ${isNorm ? 'var squares0 = 0.0; var squares1 = 0.0;' : ''}
  for (var start = 0; start < uniforms.inner; start = start + ${DEPTH}) {
    for (var i = lane; i < ${TILE * DEPTH}; i = i + ${THREADS}) {
      let k = start + i % ${DEPTH};
      let row = firstRow + i / ${DEPTH};
      var x = 0.0;
      if (row < uniforms.rows && k < uniforms.inner) { x = L(row * uniforms.inner + k); }
      left[(i / ${DEPTH}) * ${PITCH} + i % ${DEPTH}] = x;
    }
    for (var i = lane; i < ${TILE * DEPTH}; i = i + ${THREADS}) {
      let depth = ${transposeB ? `i % ${DEPTH}` : `i / ${TILE}`};
      let line = ${transposeB ? `i / ${DEPTH}` : `i % ${TILE}`};
      let k = start + depth;
      let column = firstColumn + line;
      let isThere = column < uniforms.columns && k < uniforms.inner;
      ${isNorm ? 'var scale = 0.0; if (isThere) { scale = scales(k); }' : ''}
      ${eachMade(
        (k) => `var y${k} = 0.0; if (isThere) { y${k} = ${right(k)}; }
      right${k}[line * ${PITCH} + depth] = y${k}${isNorm ? ' * scale' : ''};`,
      )}
    }
    workgroupBarrier();
    for (var k = 0; k < ${DEPTH}; k = k + 1) {
      let a0 = left[down + k];
      let a1 = left[down + ${8 * PITCH} + k];
      ${isNorm ? 'squares0 = squares0 + a0 * a0; squares1 = squares1 + a1 * a1;' : ''}
      ${eachMade(
        (k) => `let b${k}_0 = right${k}[along + k];
      let b${k}_1 = right${k}[along + ${8 * PITCH} + k];
      ${corners.map((corner) => `p${k}_${corner} = p${k}_${corner} + a${corner >> 1} * b${k}_${corner & 1};`).join(' ')}`,
      )}
    }
    workgroupBarrier();
  }
  ${
    isNorm
      ? [0, 1]
          .map((i) => `let root${i} = sqrt(squares${i} / f32(uniforms.inner) + uniforms.epsilon);`)
          .join('\n  ')
      : ''
  }
  let row = firstRow + lane / 8;
  let column = firstColumn + lane % 8;
  ${corners.map(finish).join('\n  ')}
}`,
  });
}
