import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

test('a benchmark leaves nothing in the home folder or among temporary files', () => {
  const home = mkdtempSync(path.join(tmpdir(), 'bench-home-'));
  try {
    const { ORT_DISABLE_TELEMETRY: _, ...inherited } = process.env;
    const args = ['train', '--seconds', '0.01', '--rounds', '1', '--threads', '1', '--python', '/nowhere'];
    const text = execFileSync(process.execPath, [inRepository('tools/run-bench.mjs'), ...args], {
      env: { ...inherited, HOME: home, TMPDIR: home },
      encoding: 'utf8',
    });
    expect(text).toContain('AR model tiny-32');
    expect(readdirSync(home)).toEqual([]);
  } finally {
    rmSync(home, { recursive: true });
  }
});
