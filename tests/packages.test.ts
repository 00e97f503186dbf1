import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The most that the JavaScript of a package may weigh, in bytes after gzip. Raise a limit where the gain is worth it. */
const SIZE_LIMITS: Readonly<Record<string, number>> = {
  '@detailflow/ai-sdk-provider': 7_200,
  '@detailflow/ar-model': 2_500,
  '@detailflow/backend-node': 13_000,
  '@detailflow/backend-webgpu': 27_000,
  '@detailflow/blocks': 19_600,
  '@detailflow/checkpoint': 39_600,
  '@detailflow/core': 42_000,
  '@detailflow/data': 47_800,
  '@detailflow/eval': 29_500,
  '@detailflow/features': 9_400,
  '@detailflow/hub': 25_700,
  '@detailflow/llamagen': 14_100,
  '@detailflow/model-emoji-64': 1_000,
  '@detailflow/model-fashion-32': 1_000,
  '@detailflow/onnx': 13_500,
  '@detailflow/queue': 14_300,
  '@detailflow/sampler': 8_300,
  '@detailflow/serve': 24_200,
  '@detailflow/softvq': 12_000,
  '@detailflow/tokenizer': 13_000,
  '@detailflow/train': 69_900,
  '@detailflow/var': 21_900,
  detailflow: 73_700,
};

interface Manifest {
  readonly [field: string]: unknown;
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly keywords: readonly string[];
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

interface Package {
  readonly folder: string;
  readonly manifest: Manifest;
  /** What npm would publish. */
  readonly files: readonly string[];
  text(file: string): string;
}

const packed: { name: string; files: { path: string }[] }[] = JSON.parse(
  execFileSync('npm', ['pack', '--workspace', 'packages', '--dry-run', '--ignore-scripts', '--json'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    shell: process.platform === 'win32',
  }),
);

const packages: readonly Package[] = readdirSync(path.join(root, 'packages')).map((folder) => {
  const text = (file: string) => readFileSync(path.join(root, 'packages', folder, file), 'utf8');
  const manifest: Manifest = JSON.parse(text('package.json'));
  const files = packed.find(({ name }) => name === manifest.name)?.files.map((file) => file.path) ?? [];
  return { folder, manifest, files, text };
});
const rootManifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const siblings = new Map(packages.map(({ manifest }) => [manifest.name, manifest]));

/** `@scope/name/sub/path` -> [`@scope/name`, `./sub/path`]. */
function splitSpecifier(specifier: string): readonly [string, string] {
  const parts = specifier.split('/');
  const length = specifier.startsWith('@') ? 2 : 1;
  return [parts.slice(0, length).join('/'), ['.', ...parts.slice(length)].join('/')];
}

/** Whether `^a.b.c` allows a version, as npm sees it: the first number that is not 0 must stay. */
function isCaretOf(range: string, version: string): boolean {
  const numbers = (text: string) => text.split('.').map(Number);
  if (!/^\^\d+\.\d+\.\d+$/.test(range)) return false;
  const [low, at] = [numbers(range.slice(1)), numbers(version)];
  const first = low.findIndex((number) => number > 0);
  const fixed = first < 0 ? 3 : first + 1;
  if (low.slice(0, fixed).some((number, i) => number !== at[i])) return false;
  const open = [0, 1, 2].filter((i) => i >= fixed).find((i) => low[i] !== at[i]);
  return open === undefined || at[open] > low[open];
}

/** What a foreign package leaves to its user to install. */
function peersOf(name: string): string[] {
  const file = path.join(root, 'node_modules', name, 'package.json');
  if (siblings.has(name) || !existsSync(file)) return [];
  const { peerDependencies = {}, peerDependenciesMeta = {} } = JSON.parse(readFileSync(file, 'utf8'));
  return Object.keys(peerDependencies).filter((peer) => !peerDependenciesMeta[peer]?.optional);
}

/** Everything that a package's built code and types import. */
function imports({ files, text }: Package): ReadonlySet<string> {
  const pattern =
    /^(?:import|export|\}).*\bfrom ["']([^"']+)["'];?$|^import ["']([^"']+)["']|\bimport\(["']([^"']+)["']\)/gm;
  const code = files.filter((file) => /\.(js|mjs|d\.ts)$/.test(file));
  return new Set(
    code.flatMap((file) => [...text(file).matchAll(pattern)].map((match) => match.slice(1).find(Boolean)!)),
  );
}

test('every package has a size limit', () => {
  expect(Object.keys(SIZE_LIMITS).sort()).toEqual([...siblings.keys()].sort());
});

describe.each(packages)('$manifest.name', (one) => {
  const { folder, manifest, files, text } = one;

  test('says what it is', () => {
    expect(manifest).toMatchObject({
      name: folder === 'detailflow' ? folder : `@detailflow/${folder}`,
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      description: expect.stringMatching(/^.{30,160}[^.]$/),
      license: 'Apache-2.0',
      type: 'module',
      sideEffects: false,
      engines: { node: '>=20' },
      publishConfig: { access: 'public' },
    });
    expect(manifest.private).toBeUndefined();
    const { homepage, bugs, repository } = rootManifest;
    const directory = `packages/${folder}`;
    expect(manifest).toMatchObject({ homepage, bugs, repository: { ...repository, directory } });
    expect(manifest.keywords).toContain('detailflow');
    expect(manifest.keywords.length).toBeGreaterThan(2);
    // Nothing runs on a user's machine when the package is installed.
    expect(
      Object.keys(manifest.scripts ?? {}).filter((name) => /install|prepare|pre|post/.test(name)),
    ).toEqual([]);
  });

  test('ships its code, its types and its papers, and nothing else', () => {
    for (const file of ['package.json', 'README.md', 'LICENSE']) expect(files).toContain(file);
    expect(text('LICENSE')).toBe(readFileSync(path.join(root, 'LICENSE'), 'utf8'));
    const known =
      /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|dist\/[\w-]+\.(js|d\.ts)|bin\/[\w-]+\.mjs|Containerfile|\w+\.service)$/;
    // A model brings its weights, and the notices or credits of the data that it was trained on.
    const model =
      /^(LICENSE-[\w-]+|CREDITS\.md|model\/[\w-]+\.(json|safetensors)|classifier\.safetensors|images\/[\w-]+\.png)$/;
    const isModel = manifest.name.includes('/model-');
    expect(files.filter((file) => !(known.test(file) || (isModel && model.test(file))))).toEqual([]);
    expect(files.filter((file) => /\btest\b/.test(file))).toEqual([]);
    if (manifest.version !== '0.0.0') expect(files).toContain('CHANGELOG.md');
  });

  test('ships what its README shows and links to', () => {
    const links = [...text('README.md').matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
    const local = links.filter((link) => !/^(https?:|#)/.test(link));
    expect(local.filter((link) => !files.includes(link))).toEqual([]);
    if (files.some((file) => file.startsWith('images/'))) expect(local).not.toEqual([]);
  });

  test('exports files that are shipped, types first', () => {
    expect(Object.keys(manifest.exports)).toContain('.');
    for (const conditions of Object.values(manifest.exports)) {
      if (typeof conditions === 'string') {
        const pattern = (conditions as string).replace('./', '').replace('*', '');
        expect(files.filter((file) => file.startsWith(pattern))).not.toEqual([]);
        continue;
      }
      // "default" is for import, and for require where Node loads ES modules with it.
      expect(Object.keys(conditions)).toEqual(['types', 'default']);
      expect(conditions.types).toBe(conditions.default.replace(/\.js$/, '.d.ts'));
      for (const file of Object.values(conditions)) expect(files).toContain(file.replace('./', ''));
    }
    for (const file of Object.values(manifest.bin ?? {})) {
      expect(files).toContain(file);
      expect(text(file)).toMatch(/^#!\/usr\/bin\/env node\n/);
    }
    expect(files.filter((file) => file.endsWith('.js') && text(file).includes('sourceMappingURL'))).toEqual(
      [],
    );
  });

  test('declares what it imports, and imports what it declares', () => {
    const specifiers = [...imports(one)].filter((specifier) => !/^\.{0,2}\//.test(specifier));
    const foreign = specifiers.filter((specifier) => !isBuiltin(specifier)).map(splitSpecifier);
    const imported = foreign.map(([name]) => name);
    // What need not be there is imported where it is used, and declared as an optional peer.
    const optional = Object.keys(manifest.peerDependencies ?? {});
    for (const name of optional) {
      expect(manifest.peerDependenciesMeta?.[name], name).toEqual({ optional: true });
      expect(manifest.dependencies?.[name], name).toBeUndefined();
    }
    const names = new Set([...imported, ...imported.flatMap(peersOf)]);
    for (const name of optional) names.delete(name);
    expect([...names].sort()).toEqual(Object.keys(manifest.dependencies ?? {}).sort());
    for (const [name, subpath] of foreign) {
      const sibling = siblings.get(name);
      if (sibling) expect(Object.keys(sibling.exports), name).toContain(subpath);
    }
  });

  test('asks for siblings that are compatible with those here, and for one version of others', () => {
    for (const [name, range] of Object.entries(manifest.dependencies ?? {})) {
      const sibling = siblings.get(name);
      if (sibling) expect(isCaretOf(range, sibling.version), `${name} ${range}`).toBe(true);
      else expect(range, name).toMatch(/^\d+\.\d+\.\d+$/);
    }
  });

  test('stays within its size limit', () => {
    // By length: names of chunks change with every change, and their order alone changes the size by a tenth of a percent and more.
    const code = files.filter((file) => /\.m?js$/.test(file)).map(text);
    code.sort((a, b) => a.length - b.length);
    expect(code.length).toBeGreaterThan(0);
    expect(gzipSync(code.join('\n'), { level: 9 }).length).toBeLessThanOrEqual(SIZE_LIMITS[manifest.name]);
  });
});

const [major, minor] = process.versions.node.split('.').map(Number);
const requiresModules = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);

test.runIf(requiresModules)('require() gives what import gives, without a warning', () => {
  const specifiers = [...siblings.values()].flatMap(({ name, exports }) =>
    Object.keys(exports)
      .filter((subpath) => !subpath.includes('*'))
      .map((subpath) => name + subpath.slice(1)),
  );
  const names = (how: string) =>
    `Object.fromEntries(await Promise.all(${JSON.stringify(specifiers)}.map(async (one) => [one, Object.keys(${how}(one)).sort()])))`;
  const run = (program: string, type: string) =>
    spawnSync(process.execPath, [`--input-type=${type}`, '--eval', program], { cwd: root, encoding: 'utf8' });
  const required = run(`(async () => console.log(JSON.stringify(${names('require')})))();`, 'commonjs');
  const imported = run(`console.log(JSON.stringify(${names('await import')}));`, 'module');
  expect(required).toMatchObject({ stderr: '', status: 0 });
  expect(JSON.parse(required.stdout)).toEqual(JSON.parse(imported.stdout));
  expect(JSON.parse(required.stdout)).toMatchObject({ detailflow: expect.arrayContaining(['load']) });
});
