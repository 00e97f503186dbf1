import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Guides of the site, from the root. */
export const guides: readonly string[] = readdirSync(path.join(root, 'docs/guide')).map(
  (name) => `docs/guide/${name}`,
);

/** README files of the repository and its packages, and the guides, from the root. */
const pages: readonly string[] = [
  'README.md',
  ...readdirSync(path.join(root, 'packages')).map((name) => `packages/${name}/README.md`),
  ...guides,
];

/** The TypeScript programs of a Markdown file. */
export function snippets(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
}

/** Programs of a Markdown file, and why some of them are checked only: `<!-- checked, not run: REASON -->` before them. */
export function programs(file: string): { code: string; notRun?: string }[] {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/(?:^<!-- checked, not run: ([^\n]+) -->\n)?^```ts\n(.*?)^```$/gms)].map(
    ([, notRun, code]) => ({ code, notRun }),
  );
}

/** A program as Node 20 runs it. */
export function withoutTypes(code: string): string {
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  return ts.transpileModule(code, { compilerOptions }).outputText;
}

/**
 * Writes every program of the READMEs, every example, and what types must say, into a folder inside the repository,
 * where packages are found as they are in a project that has installed them.
 */
export function writePrograms(folder: string): string[] {
  const files: string[] = [];
  mkdirSync(folder, { recursive: true });
  const put = (name: string, code: string) => {
    files.push(path.join(folder, name));
    writeFileSync(path.join(folder, name), code);
  };
  for (const readme of pages) {
    const name = readme.replace(/\W+/g, '-');
    for (const [i, code] of snippets(path.join(root, readme)).entries()) put(`${name}-${i + 1}.mts`, code);
  }
  const examples = path.join(root, 'examples');
  for (const name of readdirSync(examples).filter((file) => /^[\w-]+\.ts$/.test(file))) {
    put(name.replace(/\.ts$/, '.mts'), readFileSync(path.join(examples, name), 'utf8'));
  }
  put('typed.mts', readFileSync(path.join(root, 'tests/fixtures/types/typed.mts'), 'utf8'));
  return files;
}
