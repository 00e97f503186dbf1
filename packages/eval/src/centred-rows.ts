/** The mean of the rows [n, width] of some sets together, in float64. */
export function meanRow(sets: readonly Float32Array[], width: number): Float64Array {
  const mean = new Float64Array(width);
  let rows = 0;
  for (const features of sets) {
    rows += features.length / width;
    for (let at = 0; at < features.length; ) {
      for (let k = 0; k < width; k++, at++) mean[k] += features[at];
    }
  }
  return mean.map((sum) => sum / rows);
}
