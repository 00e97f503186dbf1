import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { UsageError } from './command';

const PACKAGE = /^@[\w.-]+\/[\w.-]+$/;

/**
 * The folder of a model that an argument names: a path, or a package that is installed and holds a bundle in `model/`.
 * @throws UsageError for a package that is not there
 */
export function modelFolder(text: string): string {
  if (!PACKAGE.test(text) || existsSync(text)) return text;
  for (const from of [path.join(process.cwd(), 'package.json'), import.meta.url]) {
    try {
      return path.dirname(createRequire(from).resolve(`${text}/model/config.json`));
    } catch {
      // not installed there
    }
  }
  throw new UsageError(
    `"${text}" is no folder, and no package with a model is installed by that name: npm install ${text}`,
  );
}
