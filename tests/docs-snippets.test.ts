import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { inRepository } from './cli';
import { guides, programs, snippets, withoutTypes } from './snippets';

// Programs of the guides run as they stand; types.test.ts checks the types of all, of those that are not run too.

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-guides-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const all = guides.flatMap((guide) =>
  programs(inRepository(guide)).map((program, i) => ({ guide, number: i + 1, ...program })),
);
const run = all.filter(({ notRun }) => notRun === undefined);

test('every program of a guide runs, or says why not', () => {
  expect(run.length).toBeGreaterThan(10);
  expect(all.length).toBe(guides.reduce((sum, guide) => sum + snippets(inRepository(guide)).length, 0));
  for (const { notRun } of all) if (notRun !== undefined) expect(notRun).toMatch(/^\w+( \S+){2,}$/);
});

test.each(run)('$guide, program $number runs', async ({ guide, number, code }) => {
  // It lies inside the repository so that its imports are found, and writes outside.
  const program = path.join(inRepository('examples'), `.guide-${path.basename(guide, '.md')}-${number}.mjs`);
  writeFileSync(program, withoutTypes(code));
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [program], { cwd: folder });
    expect(stderr).toBe('');
    expect(stdout).not.toBe('');
  } finally {
    rmSync(program);
  }
});
