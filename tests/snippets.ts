import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));

/** README files of the repository and its packages, from the root. */
export const readmes: readonly string[] = [
  'README.md',
  ...readdirSync(path.join(root, 'packages')).map((name) => `packages/${name}/README.md`),
];

/** The TypeScript programs of a Markdown file. */
export function snippets(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
}

/** A program as Node 20 runs it. */
export function withoutTypes(code: string): string {
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  return ts.transpileModule(code, { compilerOptions }).outputText;
}
