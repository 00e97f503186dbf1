// The packages of this repository and what each of them exports, for all that goes through every package.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/**
 * @typedef {object} Entry
 * @property {string} specifier what an import says, such as "@detailflow/core/conformance"
 * @property {string} source the file behind it, from the root
 * @property {string} types its declarations once the package is built, from the root
 */

/** Where the source of `./dist/NAME.js` lies: `src/NAME.ts` or `src/NAME/index.ts`. */
function sourceOf(folder, file) {
  const name = /^\.\/dist\/(.+)\.js$/.exec(file)?.[1];
  const found = [`src/${name}.ts`, `src/${name}/index.ts`].find((one) =>
    existsSync(path.join(root, folder, one)),
  );
  if (!found) throw new Error(`${folder}: no source for ${file}`);
  return `${folder}/${found}`;
}

/** All packages, in the order of their folders. */
export function packages() {
  return readdirSync(path.join(root, 'packages'), { withFileTypes: true })
    .filter(
      (entry) => entry.isDirectory() && existsSync(path.join(root, 'packages', entry.name, 'package.json')),
    )
    .map(({ name: short }) => {
      const folder = `packages/${short}`;
      const manifest = JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8'));
      /** @type {Entry[]} */
      const entries = Object.entries(manifest.exports)
        .filter(([subpath, target]) => !subpath.includes('*') && target.types)
        .map(([subpath, target]) => ({
          specifier: manifest.name + subpath.slice(1),
          source: sourceOf(folder, target.default),
          types: path.join(folder, target.types),
        }));
      return { short, folder, name: manifest.name, manifest, entries };
    });
}
