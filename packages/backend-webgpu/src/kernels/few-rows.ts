import { Kernel } from '../kernel';
import { THREADS } from './gathering';
import { pointwiseParts } from './pointwise';
import { finishProducts, type ProductsSource, productUniforms } from './products';

/**
 * Whether {@link fewRowsKernel} is the one for so many rows: with more than 4, adding up what threads have found only pays
 * where each of them reads at least 4 times.
 */
export const areFewRows = (rows: number, inner: number): boolean =>
  inner > 0 && inner % 4 === 0 && rows <= (inner >= 16 * THREADS ? 16 : 4);

/** Sums that a thread keeps, which must fit its registers. */
const MOST_SUMS = 32;
/** Sums of threads lie apart by this in shared memory, so that threads that add them up read different banks. */
const PITCH = THREADS + 1;

/** Rows and columns of the result that a workgroup makes. */
export function fewRowsTile(
  rows: number,
  products: number,
): { readonly down: number; readonly across: number } {
  const down = rows > 4 ? 8 : rows > 2 ? 4 : rows;
  return { down, across: Math.min(4, MOST_SUMS / (down * products)) };
}

/**
 * Products of few rows by matrices [columns, inner], and an expression of them. Such a product takes as long as reading the
 * matrices does, so threads share the inner axis: each reads its part of some rows of the matrices once, 16 bytes (of halves 8)
 * beside those of its neighbours, waits for nobody meanwhile, and only what it has added up goes through shared memory.
 * Inputs and uniforms are those of the kernel for more rows; \`inner\` is a multiple of 4.
 */
export function fewRowsKernel(
  source: ProductsSource,
  { down, across }: ReturnType<typeof fewRowsTile>,
): Kernel {
  const { expression, accesses, rank, isNorm } = source;
  const parts = pointwiseParts(expression, accesses, rank);
  const made = accesses.flatMap((access, k) => (access === 'product' ? [k] : []));
  const byFours = ['L', ...(isNorm ? ['scales'] : []), ...made.map((k) => `R${k}`)];
  const each = (count: number, write: (i: number) => string) =>
    Array.from({ length: count }, (_, i) => write(i)).join('\n');
  const cells = down * across;
  const sums = [
    ...made.flatMap((k) => Array.from({ length: cells }, (_, i) => `p${k}_${i}`)),
    ...(isNorm ? Array.from({ length: down }, (_, r) => `squares${r}`) : []),
  ];
  const found = made.map(
    (_, i) =>
      `added[(${i * cells} + lane) * ${PITCH}]${isNorm ? ` / sqrt(added[(${made.length * cells} + lane / ${across}) * ${PITCH}] / f32(uniforms.inner) + uniforms.epsilon)` : ''}`,
  );
  return new Kernel({
    inputs: [...byFours, ...parts.inputs],
    byFours,
    uniforms: [...productUniforms(isNorm), ...parts.uniforms],
    code: `${parts.functions}
var<workgroup> added: array<f32, ${sums.length * PITCH}>;
${finishProducts(made, parts.body)}
fn main(thread: i32) {
  let lane = thread % ${THREADS};
  let isTile = thread / ${THREADS} < uniforms.tiles;
  let tile = min(thread / ${THREADS}, uniforms.tiles - 1);
  // Workgroups that read the same rows of the matrices are neighbours.
  let rowTiles = uniforms.tiles / uniforms.across;
  let firstRow = (tile % rowTiles) * ${down};
  let firstColumn = (tile / rowTiles) * ${across};
  let fours = uniforms.inner / 4;
  ${each(down, (r) => `let row${r} = min(firstRow + ${r}, uniforms.rows - 1) * fours;`)}
  ${each(across, (c) => `let column${c} = min(firstColumn + ${c}, uniforms.columns - 1) * fours;`)}
  ${sums.map((sum) => `var ${sum} = 0.0;`).join(' ')}
  for (var k = lane; k < fours; k = k + ${THREADS}) {
    ${each(down, (r) => `let x${r} = L(row${r} + k);${isNorm ? ` squares${r} = squares${r} + dot(x${r}, x${r});` : ''}`)}
    ${isNorm ? 'let scale = scales(k);' : ''}
    ${made
      .map((k) =>
        each(
          across,
          (c) => `let y${k}_${c} = R${k}(column${c} + k)${isNorm ? ' * scale' : ''};
    ${each(down, (r) => `p${k}_${r * across + c} = p${k}_${r * across + c} + dot(x${r}, y${k}_${c});`)}`,
        ),
      )
      .join('\n')}
  }
  ${sums.map((sum, i) => `added[${i * PITCH} + lane] = ${sum};`).join('\n  ')}
  workgroupBarrier();
  if (lane < ${sums.length}) {
    var sum = 0.0;
    for (var i = 0; i < ${THREADS}; i = i + 1) { sum = sum + added[lane * ${PITCH} + i]; }
    added[lane * ${PITCH}] = sum;
  }
  workgroupBarrier();
  if (lane < ${cells}) { finish(isTile, firstRow + lane / ${across}, firstColumn + lane % ${across}, ${found.join(', ')}); }
}`,
  });
}
