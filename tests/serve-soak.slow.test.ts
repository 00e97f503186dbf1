import { expect, test } from 'vitest';
import { soak, unaccounted } from './soak';

/** `DETAILFLOW_REQUESTS=2000` for a first look. */
const REQUESTS = Number(process.env.DETAILFLOW_REQUESTS ?? 20_000);

test(`${REQUESTS} requests, a tenth of them cancelled: memory is flat, and every answer accounted for`, {
  timeout: 6 * 3_600_000,
}, async () => {
  const report = await soak(REQUESTS);
  const { memory, whole, cancelled, pictures } = report;
  console.log(
    `${whole} whole, ${cancelled} cancelled; ${JSON.stringify(pictures)}; MiB ${memory.map(Math.round)}`,
  );
  expect(unaccounted(report, REQUESTS)).toEqual([]);
  expect(cancelled).toBeGreaterThan(REQUESTS / 20);
  // The first fifth may still grow: caches of the runtime, code that becomes hot.
  const settled = memory.slice(memory.length / 5);
  const half = Math.floor(settled.length / 2);
  const [early, late] = [settled.slice(0, half), settled.slice(half)].map((part) => Math.max(...part));
  expect(late).toBeLessThan(early * 1.1);
});
