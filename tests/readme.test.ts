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

test.each(packages)('%s: who installs what its README says has all that its programs import', (place) => {
  const text = readFileSync(path.join(root, place, 'README.md'), 'utf8');
  const line = /^ +npm install (.*)$/m.exec(text)?.[1] ?? '';
  const installed = line.split(' ').filter((word) => !word.startsWith('-'));
  const blocks = [...text.matchAll(/^```(?:js|ts)\n(.*?)^```$/gms)].map(([, code]) => code);
  const imported = blocks.flatMap((code) =>
    [...code.matchAll(/ from '((?:@[\w-]+\/)?[\w-]+)/g)].map(([, name]) => name),
  );
  const missing = imported.filter(
    (name) => /^(@detailflow\/|detailflow$)/.test(name) && !installed.includes(name),
  );
  expect(missing).toEqual([]);
  // Its install script fails where the CUDA libraries cannot be downloaded.
  if (installed.some((name) => needsRuntime(name))) expect(line).toMatch(/^--ignore-scripts /);
});

/** Whether onnxruntime-node comes along with a package. */
function needsRuntime(name: string): boolean {
  const folder = path.join(root, 'packages', name.replace('@detailflow/', ''));
  if (name === 'onnxruntime-node') return true;
  if (!existsSync(folder)) return false;
  const { dependencies = {} } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  return Object.keys(dependencies).some((one) => needsRuntime(one));
}

test.each(programs)('$readme, program $number runs', async ({ readme, number, code }) => {
  if (code.includes('createWebGPUBackend') && webgpuMissing) return console.warn(webgpuMissing);
  // It lies inside the repository so that its imports are found.
  const program = path.join(root, 'examples', `.readme-${readme.replace(/\W+/g, '-')}-${number}.mjs`);
  writeFileSync(program, withoutTypes(code));
  try {
    const run = promisify(execFile)(process.execPath, [program], { cwd: folder });
    const { stdout, stderr } = await run; // rejects unless the exit code is 0
    expect(stderr).toBe('');
    expect(stdout).not.toBe('');
  } finally {
    rmSync(program);
  }
});
