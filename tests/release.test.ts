import { execFileSync } from 'node:child_process';
import {
  cpSync,
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
import { expect, onTestFinished, test } from 'vitest';
import { inRepository } from './cli';

test('the changesets at hand make a version of every package, with a changelog, that asks for the others by it', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-release-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(inRepository('node_modules'), path.join(folder, 'node_modules'), 'junction');
  for (const file of ['package.json', 'package-lock.json', '.changeset']) {
    cpSync(inRepository(file), path.join(folder, file), { recursive: true });
  }
  const names = readdirSync(inRepository('packages'));
  const places = [...names.map((name) => `packages/${name}`), 'examples', 'examples/browser'];
  for (const place of places) {
    mkdirSync(path.join(folder, place), { recursive: true });
    const manifest = readFileSync(inRepository(`${place}/package.json`), 'utf8');
    writeFileSync(path.join(folder, place, 'package.json'), manifest);
  }
  const before = new Map(names.map((name) => [name, manifestOf(folder, name).version]));
  const pending = readdirSync(path.join(folder, '.changeset')).filter((file) => file.endsWith('.md'));
  const program = inRepository('node_modules/@changesets/cli/bin.js');
  execFileSync(process.execPath, [program, 'version'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });

  expect(readdirSync(path.join(folder, '.changeset')).filter((file) => file.endsWith('.md'))).toEqual([]);
  const versions = new Map(
    names.map((name) => [manifestOf(folder, name).name, manifestOf(folder, name).version]),
  );
  for (const name of names) {
    const { version, dependencies = {} } = manifestOf(folder, name);
    if (before.get(name) === '0.0.0') expect({ name, version }).toEqual({ name, version: '0.1.0' });
    if (pending.length > 0 && version !== before.get(name)) {
      const changelog = readFileSync(path.join(folder, 'packages', name, 'CHANGELOG.md'), 'utf8');
      expect(changelog).toContain(`\n## ${version}\n`);
    }
    for (const [sibling, range] of Object.entries(dependencies)) {
      if (versions.has(sibling))
        expect({ name, sibling, range }).toEqual({ name, sibling, range: `^${versions.get(sibling)}` });
    }
  }
});

function manifestOf(
  folder: string,
  name: string,
): { name: string; version: string; dependencies?: Record<string, string> } {
  return JSON.parse(readFileSync(path.join(folder, 'packages', name, 'package.json'), 'utf8'));
}
