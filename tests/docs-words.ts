import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { inRepository } from './cli';

/** Code inside the prose of a Markdown file. */
export function inlineCode(markdown: string): string[] {
  const prose = markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, '').replace(/<!--[\s\S]*?-->/g, '');
  return [...prose.matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map(([, code]) => code);
}

/** Whether a piece of code is a name of a program: `createNodeBackend`, `model.generate`, `toPng()`. */
export function isNameLike(code: string): boolean {
  return /^[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*(\(\))?$/.test(code) && /[a-z][A-Z]/.test(code);
}

/** Every word of the sources, of Node's and the browser's interfaces that the guides mention, and of settings. */
export function knownWords(): Set<string> {
  const words = new Set<string>();
  const read = (folder: string) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!['node_modules', 'dist', 'fixtures', 'build', 'cache'].includes(entry.name)) read(file);
      } else if (/\.(ts|mjs|vue|py|json|yaml)$/.test(entry.name) && !/\.test\.ts$|lock/.test(entry.name)) {
        for (const [word] of readFileSync(file, 'utf8').matchAll(/[A-Za-z_$][\w$]*/g)) words.add(word);
      }
    }
  };
  for (const folder of ['packages', 'examples', 'tools', 'docs', 'tests/page']) read(inRepository(folder));
  for (const word of foreign) words.add(word);
  return words;
}

/** Names of other programs: bundlers, runtimes, the official code, other libraries. */
const foreign = [
  ...[
    'serverExternalPackages',
    'moduleResolution',
    'topLevelAwait',
    'cacheDir',
    'skipLibCheck',
    'generateImage',
  ],
];

export interface ShellCommand {
  readonly verb: string;
  readonly flags: readonly string[];
  readonly command: string;
}

/** Commands `detailflow VERB ...` in the shell blocks of a Markdown file. */
export function shellCommands(markdown: string): ShellCommand[] {
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```/gms)].map(([, code]) => code);
  const indented = [...markdown.matchAll(/^ {4}(?:npx )?detailflow [^\n]*(?:\\\n[^\n]*)*/gm)].map(([code]) =>
    code.trim(),
  );
  const lines = [...blocks.flatMap((code) => code.replace(/\\\n/g, ' ').split('\n')), ...indented];
  return lines.flatMap((line) => {
    const command = /^(?:npx )?detailflow ((?:\\\n|.)*)$/s.exec(line.replace(/\s+#.*$/, '').trim())?.[1];
    if (!command) return [];
    const [verb] = command.split(' ');
    if (verb === 'help') return [];
    return [{ verb, flags: [...command.matchAll(/(?<=\s)--[a-z-]+/g)].map(([flag]) => flag), command }];
  });
}
