import { expect, test } from 'vitest';
import { errorFunction } from './error-function';

// Values of Abramowitz and Stegun, table 7.1.
test.each([
  [0, 0],
  [0.02, 0.0225645747],
  [0.5, 0.5204998778],
  [1, 0.8427007929],
  [1.5, 0.9661051465],
  [2, 0.995322265],
])('erf(%d)', (x, expected) => {
  expect(errorFunction(x)).toBeCloseTo(expected, 9);
  expect(errorFunction(-x)).toBeCloseTo(-expected, 9);
});

test('the series meets the constant where it ends, and NaN stays', () => {
  expect(errorFunction(6)).toBeCloseTo(1, 14);
  expect(errorFunction(1e30)).toBe(1);
  expect(errorFunction(Number.NEGATIVE_INFINITY)).toBe(-1);
  expect(errorFunction(Number.NaN)).toBeNaN();
});
