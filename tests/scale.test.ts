import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

interface Figures {
  readonly pictures: number;
  readonly shard: number;
  readonly draw: number;
  readonly features: number;
  readonly start: number;
  readonly merge: number;
  readonly queue: number;
  readonly bytes: number;
  readonly machines: readonly number[];
}
interface Cost {
  readonly machines: number;
  readonly rounds: number;
  readonly total: number;
  readonly idle: number;
}

const scale: {
  readonly measured: Figures;
  costs(figures: Figures): Cost[];
  limits(figures: Figures): { merge: number; queue: number };
  withTables(text: string): string;
} = await import(pathToFileURL(inRepository('tools/scale.mjs')).href);

test('the tables of docs/scale.md are those of its figures', () => {
  const text = readFileSync(inRepository('docs/scale.md'), 'utf8');
  expect(text).toContain('| 64 |');
  expect(scale.withTables(text)).toBe(text);
  // A hundred times as fast, by hand: 64 pictures of 13.3 ms and features of 27 (0.27) ms, against 64 sums of 1.64 ms.
  expect(text).toMatch(/a hundred times as fast, summing up is the limit from 25 on;.* too, from 9 on\./);
  // No number of machines stands in the prose, where nothing would correct it.
  expect(text.replace(/<!-- node .*?<!-- end -->/s, '')).not.toMatch(
    /(that is|from) (\d[\d,]*|two|three|four|five|six|seven|eight|nine|ten) (such )?machines/,
  );
  // Its figures are those of BENCHMARKS.md.
  const benchmarks = readFileSync(inRepository('BENCHMARKS.md'), 'utf8');
  expect(benchmarks).toMatch(new RegExp(`\\| \`fp32\` \\|.*\\| ${scale.measured.draw} \\(`));
  expect(benchmarks).toMatch(
    new RegExp(`256-pixel images, same weights, images/s \\| ${1 / scale.measured.features} `),
  );
  expect(benchmarks).toMatch(new RegExp(`into all statistics \\| ${scale.measured.merge * 50_000} s`));
});

test('what is computed is what one would by hand', () => {
  // 100 pictures in shards of 10, 2 s each: 20 s a shard.
  const figures = {
    ...{ pictures: 100, shard: 10, draw: 1.5, features: 0.5, start: 5 },
    ...{ merge: 0.1, queue: 1, bytes: 1, machines: [1, 3, 10, 1000] },
  };
  const [one, three, ten, thousand] = scale.costs(figures);
  expect(one).toMatchObject({ rounds: 10, idle: 0, total: 5 + 10 * 21 + 1 });
  expect(three).toMatchObject({ rounds: 4, total: 5 + 4 * 21 + 1 });
  expect(three.idle).toBeCloseTo(1 / 6, 12);
  expect(ten).toMatchObject({ rounds: 1, total: 5 + 20 + 20 + 1 }); // sums of ten shards, 2 s each
  expect(thousand.total).toBe(ten.total);
  expect(scale.limits(figures)).toEqual({ merge: 20, queue: 20 });
});
