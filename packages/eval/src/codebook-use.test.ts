import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { exactNumbers as numbers } from '../../../tests/numbers-by-formula';
import { CodebookUse } from './codebook-use';

/** By numpy and SciPy: tools/reference/eval-metrics.py. */
const { codes: reference } = JSON.parse(
  readFileSync(new URL('../../../tests/fixtures/eval-metrics.json', import.meta.url), 'utf8'),
);

test('share in use and perplexity of numpy and SciPy', () => {
  const use = new CodebookUse(1024);
  const codes = numbers('codes', 3000).map((x) => Math.floor(x ** 2 * 500));
  use.add(codes.subarray(0, 1000));
  use.add(codes.subarray(1000));
  expect(use.finish().usage).toBe(reference.usage);
  expect(Math.abs(use.finish().perplexity / reference.perplexity - 1)).toBeLessThan(1e-12);
});

test.each([1024, -1, 0.5, Number.NaN])('the code %d is refused', (code) => {
  expect(() => new CodebookUse(1024).add([3, code])).toThrow(/is none of 0\.\.1023/);
});
