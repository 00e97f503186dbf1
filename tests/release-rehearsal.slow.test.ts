import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

// What is committed, with the packages that are built here. Needs the npm registry.

test('a release goes through to the last program, on Node 20 and the newest, and leaves nothing behind', async () => {
  const args = [inRepository('tools/release/rehearse.mjs'), '--fast'];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 26 });
  expect(stdout).toContain(`${readdirSync(inRepository('packages')).length} packages are published there`);
  expect(stdout).toMatch(/Node 20\.\d+\.\d+ and \d+\.\d+\.\d+/);
  expect(stdout).toMatch(/README\.md: \d+ packages installed, 2 runs of 1 programs/);
  expect(stdout).toMatch(/READMEs of the packages: \d+ packages installed, \d+ runs of \d+ programs/);
  expect(stdout).toContain('everything is thrown away');
});
