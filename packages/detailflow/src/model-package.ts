import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const PACKAGE = /^(?:@[\w.-]+\/)?[a-z\d][\w.-]*$/i;

/**
 * The folder of a model that a text names: a path, or a package that is installed and holds a bundle in `model/`. What
 * lies on disk comes first. A package is looked for from where the program lies, from the working directory, and
 * beside this package.
 * @returns undefined for the name of a package that is not installed
 */
export function modelFolder(text: string): string | undefined {
  if (!PACKAGE.test(text) || existsSync(text)) return text;
  const { argv, cwd } = process;
  const program = argv[1] === undefined ? [] : [pathToFileURL(path.resolve(argv[1])).href];
  for (const from of [...program, path.join(cwd(), 'package.json'), import.meta.url]) {
    try {
      return path.dirname(createRequire(from).resolve(`${text}/model/config.json`));
    } catch {
      // not installed there
    }
  }
  return text.startsWith('@') ? undefined : text;
}
