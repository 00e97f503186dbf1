import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { provideDriver } from '../tools/webgpu/driver.mjs';
import { snippets, withoutTypes } from './snippets';

const webgpuMissing = provideDriver();

const root = fileURLToPath(new URL('..', import.meta.url));
const packages = readdirSync(path.join(root, 'packages')).map((name) => `packages/${name}`);

// Programs run in a folder of their own that has the fixtures, so that what they write stays out of the repository.
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-readme-'));
mkdirSync(path.join(folder, 'tests'));
symlinkSync(path.join(root, 'tests/fixtures'), path.join(folder, 'tests/fixtures'), 'junction');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const programs = ['.', ...packages].flatMap((place) => {
  const file = path.join(root, place, 'README.md');
  if (!existsSync(file)) return [];
  return snippets(file).map((code, i) => ({ readme: path.join(place, 'README.md'), number: i + 1, code }));
});

test.each(packages)('%s has a README with a program, an install line and a table', (place) => {
  const text = readFileSync(path.join(root, place, 'README.md'), 'utf8');
  expect(text).toMatch(/^# \S+\n/);
  expect(text).toMatch(/^ +npm install /m);
  expect(text).toMatch(/^```ts$/m);
  expect(text).not.toMatch(/^```(js|javascript|mjs|typescript)$/m); // programs are TypeScript, and checked
  expect(text).toMatch(/^\|---\|---\|$/m);
  expect(text).toMatch(/^Limits: /m);
});

test.each(programs)('$readme, program $number runs', async ({ readme, number, code }) => {
  if (code.includes('createWebGPUBackend') && webgpuMissing) return console.warn(webgpuMissing);
  // It lies inside the repository so that its imports are found.
  const program = path.join(root, 'examples', `.readme-${readme.replace(/\W+/g, '-')}-${number}.mjs`);
  writeFileSync(program, withoutTypes(code));
  try {
    const run = promisify(execFile)(process.execPath, [program], { cwd: folder, timeout: 50_000 });
    const { stdout, stderr } = await run; // rejects unless the exit code is 0
    expect(stderr).toBe('');
    expect(stdout).not.toBe('');
  } finally {
    rmSync(program);
  }
});
