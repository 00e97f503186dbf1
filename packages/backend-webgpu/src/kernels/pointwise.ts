import { Kernel } from '../kernel';
import { extentUniforms, splitIndex, type View, viewPlace, viewUniforms } from './coordinates';

/** How an operand is read: like the result, its one element everywhere, or by a view. */
export type Access = 'same' | 'single' | 'view';

/** WGSL of operations that work element by element; bools are integers. */
export const pointwiseCode: Readonly<Record<string, (...operands: string[]) => string>> = {
  neg: (x) => `(-${x})`,
  exp: (x) => `exp(${x})`,
  log: (x) => `log(${x})`,
  sqrt: (x) => `sqrt(${x})`,
  tanh: (x) => `tanh(clamp(${x}, -15.0, 15.0))`,
  erf: (x) => `errorFunction(${x})`,
  sin: (x) => `sine(${x}, 0)`,
  cos: (x) => `sine(${x}, 1)`,
  sigmoid: (x) => `(1.0 / (1.0 + exp(-${x})))`,
  add: (x, y) => `(${x} + ${y})`,
  sub: (x, y) => `(${x} - ${y})`,
  mul: (x, y) => `(${x} * ${y})`,
  div: (x, y) => `(${x} / ${y})`,
  maximum: (x, y) => `max(${x}, ${y})`,
  less: (x, y) => `select(0, 1, ${x} < ${y})`,
  equal: (x, y) => `select(0, 1, ${x} == ${y})`,
  select: (condition, x, y) => `select(${y}, ${x}, ${condition} != 0)`,
  gelu: (x) => `gelu(${x})`,
  geluExact: (x) => `(0.5 * ${x} * (1.0 + errorFunction(${x} * 0.7071067811865476)))`,
  silu: (x) => `silu(${x})`,
};

/** Erf: Abramowitz and Stegun 7.1.26, to 1.5e-7. WGSL promises little of sin and cos, so angles are reduced here. */
const functions = `
fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -15.0, 15.0)));
}
fn errorFunction(x: f32) -> f32 {
  let a = min(abs(x), 6.0);
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-a * a));
}
fn sine(x: f32, quarters: i32) -> f32 {
  let n = round(x * 0.6366197723675814);
  let r = ((x - n * 1.5703125) - n * 0.0004837512969970703) - n * 7.549790126404332e-8;
  let s = r * r;
  let odd = r * (1.0 + s * (-0.16666667 + s * (0.008333333 + s * (-0.0001984127 + s * 2.7557319e-6))));
  let even = 1.0 + s * (-0.5 + s * (0.041666667 + s * (-0.0013888889 + s * (2.4801587e-5 - s * 2.755732e-7))));
  let turn = (i32(n) + quarters) & 3;
  let y = select(odd, even, (turn & 1) == 1);
  return select(y, -y, turn >= 2);
}
fn silu(x: f32) -> f32 {
  return x / (1.0 + exp(-x));
}
`;

/**
 * What a kernel needs to compute an expression for the element at `index`.
 * @param expression WGSL over v0, v1, ...: the operands at that element; products are in variables already
 */
export function pointwiseParts(
  expression: string,
  accesses: readonly (Access | 'product')[],
  rank: number,
): { functions: string; inputs: string[]; uniforms: string[]; body: string } {
  const read = accesses.flatMap((access, k) => (access === 'product' ? [] : [{ access, k }]));
  const place = (access: Access | 'product', k: number) => {
    if (access === 'same') return 'index';
    return access === 'single' ? '0' : viewPlace(`${k}`, rank);
  };
  const viewed = read.filter(({ access }) => access === 'view').map(({ k }) => k);
  return {
    functions,
    inputs: read.map(({ k }) => `A${k}`),
    uniforms:
      viewed.length > 0
        ? [...extentUniforms(rank), ...viewed.flatMap((k) => viewUniforms(`${k}`, rank))]
        : [],
    body: `${viewed.length > 0 ? splitIndex(rank) : ''}
  ${read.map(({ access, k }) => `let v${k} = A${k}(${place(access, k)});`).join('\n  ')}
  result[index] = ${expression};`,
  };
}

/**
 * A kernel that computes an expression for every element.
 * @param expression WGSL over v0, v1, ...: the operands at that element
 */
export function pointwiseKernel(expression: string, accesses: readonly Access[], rank: number): Kernel {
  const { functions: helpers, inputs, uniforms, body } = pointwiseParts(expression, accesses, rank);
  return new Kernel({
    inputs,
    uniforms,
    code: `${helpers}
fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  ${body}
}`,
  });
}

/** Numbers of {@link pointwiseKernel}: the shape of the result, and the views in order. */
export const pointwiseNumbers = (shape: readonly number[], views: readonly View[]): number[] =>
  views.length === 0
    ? []
    : [...shape.slice(1), ...views.flatMap(({ offset, strides }) => [offset, ...strides])];

/** A literal of a value that a float32 holds; infinities come from tfjs's uniforms. */
export function floatLiteral(value: number): string {
  const rounded = Math.fround(value);
  if (Number.isNaN(rounded)) return 'uniforms.NAN';
  if (!Number.isFinite(rounded)) return rounded > 0 ? 'uniforms.INFINITY' : '(-uniforms.INFINITY)';
  if (Math.abs(rounded) < 2 ** -126) return '0.0';
  const text = String(rounded);
  return /[.e]/.test(text) ? `(${text})` : `(${text}.0)`;
}
