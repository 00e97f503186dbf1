/** Numbers in [-1, 1) from a name and an index, as tools/reference/numbers_by_formula.py makes them. */
export function numbers(name: string, count: number): Float32Array {
  let seed = 2166136261;
  for (const char of name) seed = Math.imul(seed ^ char.charCodeAt(0), 16777619) >>> 0;
  return Float32Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 31 - 1;
  });
}
