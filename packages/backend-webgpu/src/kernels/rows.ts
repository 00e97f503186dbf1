import { Kernel } from '../kernel';
import { THREADS } from './gathering';

/** A workgroup for each row; threads beyond the last row repeat it and write nothing. */
const rowHeader = `
  let lane = index % ${THREADS};
  let row = min(index / ${THREADS}, uniforms.rows - 1);
  let isRow = index / ${THREADS} < uniforms.rows;
  let start = row * uniforms.width;
  let end = start + uniforms.width;`;

const each = (body: string) => `for (var i = start + lane; i < end; i = i + ${THREADS}) { ${body} }`;
const summed = (name: string, term: string) =>
  `var ${name}Part = 0.0; ${each(`${name}Part = ${name}Part + ${term};`)} let ${name} = sumOfAll(lane, ${name}Part);`;

function rowKernel(inputs: readonly string[], code: string, uniforms: readonly string[] = []): Kernel {
  return new Kernel({
    inputs,
    uniforms: ['rows : i32', 'width : i32', ...uniforms],
    gathers: true,
    code: `fn main(index: i32) {${rowHeader}\n${code}\n}`,
  });
}

const write = (expression: string) => each(`if (isRow) { result[i] = ${expression}; }`);
const largest = `var most = X(start); ${each('most = max(most, X(i));')} let top = largestOfAll(lane, most);`;
const moments = `${summed('total', 'X(i)')}
  let mean = total / f32(uniforms.width);
  ${summed('squares', '(X(i) - mean) * (X(i) - mean)')}
  let inverse = 1.0 / sqrt(squares / f32(uniforms.width) + uniforms.epsilon);`;
const EPSILON = ['epsilon : f32'];

/** Kernels over rows of the last axis: uniforms rows, width and, where there is one, epsilon. */
export const rowKernels: Readonly<Record<string, Kernel>> = {
  softmax: rowKernel(
    ['X'],
    `${largest} ${summed('total', 'exp(X(i) - top)')} ${write('exp(X(i) - top) / total')}`,
  ),
  logSoftmax: rowKernel(
    ['X'],
    `${largest} ${summed('total', 'exp(X(i) - top)')} let shift = top + log(total); ${write('X(i) - shift')}`,
  ),
  inverseDeviation: rowKernel(
    ['X'],
    `${moments} if (isRow && lane == 0) { result[row] = inverse; }`,
    EPSILON,
  ),
  standardise: rowKernel(['X'], `${moments} ${write('(X(i) - mean) * inverse')}`, EPSILON),
  layerNorm: rowKernel(
    ['X', 'weight', 'bias'],
    `${moments} ${write('(X(i) - mean) * inverse * weight(i - start) + bias(i - start)')}`,
    EPSILON,
  ),
  rmsNorm: rowKernel(
    ['X', 'weight'],
    `${summed('squares', 'X(i) * X(i)')}
  let root = sqrt(squares / f32(uniforms.width) + uniforms.epsilon);
  ${write('X(i) / root * weight(i - start)')}`,
    EPSILON,
  ),
  l2Normalise: rowKernel(
    ['X'],
    `${summed('squares', 'X(i) * X(i)')} let norm = max(sqrt(squares), uniforms.epsilon); ${write('X(i) / norm')}`,
    EPSILON,
  ),
};

/** Indices of the k largest values of every row, largest first; of equal ones the first comes first. */
export const topKKernel = new Kernel({
  inputs: ['X'],
  uniforms: ['rows : i32', 'width : i32', 'k : i32'],
  code: `
var<workgroup> bestValue: array<f32, ${THREADS}>;
var<workgroup> bestPlace: array<i32, ${THREADS}>;
fn isBefore(a: f32, i: i32, b: f32, j: i32) -> bool { return a > b || (a == b && i < j); }
fn main(index: i32) {${rowHeader}
  var lastValue = 0.0;
  var lastPlace = -1;
  for (var k = 0; k < uniforms.k; k = k + 1) {
    var value = 0.0;
    var place = -1;
    ${each(`let x = X(i); let at = i - start;
      let isLeft = lastPlace < 0 || isBefore(lastValue, lastPlace, x, at);
      if (isLeft && (place < 0 || isBefore(x, at, value, place))) { value = x; place = at; }`)}
    bestValue[lane] = value;
    bestPlace[lane] = place;
    workgroupBarrier();
    for (var reach = ${THREADS / 2}; reach > 0; reach = reach / 2) {
      if (lane < reach) {
        let other = bestPlace[lane + reach];
        if (other >= 0 && (bestPlace[lane] < 0 || isBefore(bestValue[lane + reach], other, bestValue[lane], bestPlace[lane]))) {
          bestValue[lane] = bestValue[lane + reach];
          bestPlace[lane] = other;
        }
      }
      workgroupBarrier();
    }
    lastValue = bestValue[0];
    lastPlace = bestPlace[0];
    if (isRow && lane == 0) { result[row * uniforms.k + k] = lastPlace; }
    workgroupBarrier();
  }
}`,
});
