import { expect } from 'vitest';

/** What golden.json says of one gradient. */
export interface GradientSummary {
  readonly norm: number;
  readonly sum: number;
  readonly absmax: number;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

/** Gradients of key biases are zero but for rounding. */
const ROUNDING = 1e-6;

/** Norms to 1e-3 relative; sums and single values against the norm. */
export function expectGradient(name: string, actual: Float32Array, summary: GradientSummary): void {
  const norm = Math.sqrt(actual.reduce((sum, x) => sum + x * x, 0));
  if (summary.norm < ROUNDING) {
    expect(norm, `${name}: zero but for rounding`).toBeLessThan(ROUNDING);
    return;
  }
  const scale = summary.norm;
  const close = (what: string, value: number, reference: number) =>
    expect(Math.abs(value - reference), `${name}: ${what} is ${value}, not ${reference}`).toBeLessThanOrEqual(
      1e-3 * scale,
    );
  close('norm', norm, summary.norm);
  close(
    'absmax',
    actual.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0),
    summary.absmax,
  );
  close(
    'sum',
    actual.reduce((a, b) => a + b, 0) / Math.sqrt(actual.length),
    summary.sum / Math.sqrt(actual.length),
  );
  for (const [i, value] of summary.first.entries()) close(`[${i}]`, actual[i], value);
  for (const [i, value] of summary.last.entries())
    close(`[-${summary.last.length - i}]`, actual[actual.length - summary.last.length + i], value);
}
