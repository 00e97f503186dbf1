/** Beyond this the error function is 1 or -1 to the last bit of a float64. */
const FLAT = 6;

/**
 * The error function, in float64: 2/sqrt(pi) e^(-x^2) times the sum of 2^n x^(2n+1) / (1 * 3 * 5 ... (2n+1)), whose terms all
 * have the sign of x, so nothing cancels.
 */
export function errorFunction(x: number): number {
  if (Math.abs(x) > FLAT) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * Number.EPSILON; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
