import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import ts from 'typescript';
import { expect } from 'vitest';
import { inRepository } from './cli';

/** Commands of README.md, and where they are said to run. */
export interface Block {
  readonly place: 'a clone' | 'a project' | 'both' | 'both, with a small configuration' | 'nowhere';
  readonly commands: readonly string[];
}

const places: readonly [RegExp, Block['place']][] = [
  [/^run in: a clone$/, 'a clone'],
  [/^run in: a project$/, 'a project'],
  [/^run in: both$/, 'both'],
  [/^run in: both, with a small configuration: .+$/, 'both, with a small configuration'],
  [/^not run: .+$/, 'nowhere'],
];

const readme = () => readFileSync(inRepository('README.md'), 'utf8');

/** The shell blocks in their order. Every one says in a comment before it where it runs. */
export function readmeBlocks(): Block[] {
  return [...readme().matchAll(/(?:<!-- ([^\n]+) -->\n)?^```sh\n(.*?)^```$/gms)].map(([, said, text]) => {
    const place = places.find(([pattern]) => pattern.test(said ?? ''))?.[1];
    if (!place) throw new Error(`README.md does not say where this runs: ${text}`);
    const commands = text
      .split('\n')
      .map((line) => line.replace(/\s+#.*$/, '').trim())
      .filter((line) => line !== '');
    return { place, commands };
  });
}

/** The first program of README.md, as JavaScript. */
export function readmeProgram(): string {
  const code = /^```(?:js|ts)\n(.*?)^```$/ms.exec(readme())?.[1] as string;
  const { ESNext: module } = ts.ModuleKind;
  return ts.transpileModule(code, { compilerOptions: { module, target: ts.ScriptTarget.ES2022 } }).outputText;
}

/** A training configuration that takes seconds. */
const small = {
  preset: 'tiny-32',
  tokenizer: { steps: 6, batch: 8, warmup: 2 },
  tokenModel: { steps: 6, batch: 8, microBatch: 8, warmup: 2 },
  validation: { every: 6, images: 8 },
};

/** The same commands on little data. */
export function smaller(commands: readonly string[], folder: string): string[] {
  writeFileSync(path.join(folder, 'small.json'), JSON.stringify(small));
  return commands.map((command) =>
    command.replace('--config tiny-32', '--config small.json').replaceAll('shapes:20000', 'shapes:60'),
  );
}

/**
 * Runs commands one after the other. Each must succeed, and must leave what the ones before it have written, unless it
 * writes below the folder of a run.
 * @returns what each of them printed
 */
export async function runInOrder(
  commands: readonly string[],
  folder: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string[]> {
  const outputs: string[] = [];
  for (const command of commands) {
    const before = filesOf(folder);
    const [program, ...args] = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, plain]) => quoted ?? plain,
    );
    const options = { cwd: folder, env, shell: process.platform === 'win32', maxBuffer: 2 ** 26 };
    const { stdout } = await promisify(execFile)(program, args, options);
    const after = filesOf(folder);
    for (const [file, stamp] of before) expect(after.get(file), `${file} after: ${command}`).toBe(stamp);
    outputs.push(stdout);
  }
  return outputs;
}

/** Files below out/ and runs/ with their times of change. */
function filesOf(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const top of ['out', 'runs']) {
    const entries = (() => {
      try {
        return readdirSync(path.join(folder, top), { recursive: true, withFileTypes: true });
      } catch {
        return [];
      }
    })();
    for (const entry of entries.filter((one) => one.isFile())) {
      const file = path.join(entry.parentPath, entry.name);
      const { mtimeMs, size, ino } = statSync(file);
      found.set(path.relative(folder, file), `${mtimeMs} ${size} ${ino}`);
    }
  }
  return found;
}

/** Every picture that the commands name as their result shows something. */
export async function expectPictures(commands: readonly string[], folder: string): Promise<void> {
  const files = commands.flatMap((command) => /--out (\S+\.png)/.exec(command)?.[1] ?? []);
  expect(files).not.toEqual([]);
  for (const file of files) {
    const { channels } = await sharp(path.join(folder, file)).stats();
    expect(Math.max(...channels.map(({ stdev }) => stdev)), file).toBeGreaterThan(15);
  }
}
