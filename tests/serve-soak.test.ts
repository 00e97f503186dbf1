import { expect, test } from 'vitest';
import { soak, unaccounted } from './soak';

test('of 80 requests, a tenth of them cancelled, every one is accounted for', async () => {
  const report = await soak(80);
  expect(unaccounted(report, 80)).toEqual([]);
  expect(report.cancelled).toBeGreaterThan(1);
});
