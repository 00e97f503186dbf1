import { type ParameterSpec, type Weight, weightFromArray } from '@detailflow/core';

/** Numbers in [-1, 1) from a name and an index, as tools/reference/numbers_by_formula.py makes them. */
export const numbers = (name: string, count: number): Float32Array =>
  Float32Array.from(exactNumbers(name, count));

/** The same before they are rounded to float32. */
export function exactNumbers(name: string, count: number): Float64Array {
  let seed = 2166136261;
  for (const char of name) seed = Math.imul(seed ^ char.charCodeAt(0), 16777619) >>> 0;
  return Float64Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Weights of a feature network, as tools/reference/fid_inception.py fills it. */
export function weightsByFormula(specs: readonly ParameterSpec[]): Map<string, Weight> {
  const value = ({ name, shape }: ParameterSpec) => {
    const x = numbers(
      name,
      shape.reduce((a, b) => a * b, 1),
    );
    if (/running_var$|bn\.weight$/.test(name)) return x.map((v) => 1 + 0.2 * v);
    if (shape.length === 1) return x.map((v) => 0.1 * v);
    const scale = Math.sqrt(6 / shape.slice(1).reduce((a, b) => a * b, 1));
    return x.map((v) => (name.startsWith('lin') ? Math.abs(v * scale) : v * scale));
  };
  return new Map(specs.map((spec) => [spec.name, weightFromArray(spec.name, spec.shape, value(spec))]));
}
