import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writePrograms } from './snippets';

/** The oldest supported one (README.md says which), and others up to the newest of its kind. */
const versions = ['5.0.4', '5.2.2', '5.4.5', '6.0.3'];

const programs = fileURLToPath(new URL('../examples/.types-versions/', import.meta.url));
const compilers = mkdtempSync(path.join(tmpdir(), 'typescript-'));
beforeAll(async () => {
  writePrograms(programs);
  const options = { strict: true, noEmit: true, skipLibCheck: true, types: ['node'] };
  const compilerOptions = { ...options, target: 'es2022', module: 'nodenext' };
  writeFileSync(
    path.join(programs, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, include: ['*.mts'] }),
  );
  const aliases = versions.map((version) => `typescript-${version}@npm:typescript@${version}`);
  writeFileSync(path.join(compilers, 'package.json'), '{ "private": true }');
  await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund', ...aliases], {
    ...{ cwd: compilers, shell: process.platform === 'win32' },
  });
}, 600_000);
afterAll(() => {
  rmSync(compilers, { recursive: true, force: true });
  rmSync(programs, { recursive: true, force: true });
});

test.each(versions)('TypeScript %s takes every program', async (version) => {
  const compiler = path.join(compilers, 'node_modules', `typescript-${version}`, 'lib', 'tsc.js');
  const run = promisify(execFile)(process.execPath, [compiler, '-p', programs]);
  const { stdout } = await run.catch((error: { stdout: string }) => error);
  expect(stdout).toBe('');
});
