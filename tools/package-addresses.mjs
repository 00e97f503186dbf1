// Writes where the packages are developed, as the root package.json says it, into the package.json of each of them.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const manifestOf = (folder) => JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8'));
const { repository, homepage, bugs } = manifestOf('.');
const addresses = (directory) => Object.entries({ homepage, bugs, repository: { ...repository, directory } });

for (const name of readdirSync(path.join(root, 'packages'))) {
  const directory = `packages/${name}`;
  const { homepage: _, bugs: __, repository: ___, ...manifest } = manifestOf(directory);
  const fields = Object.entries(manifest).flatMap(([field, value]) =>
    field === 'license' ? [[field, value], ...addresses(directory)] : [[field, value]],
  );
  writeFileSync(
    path.join(root, directory, 'package.json'),
    `${JSON.stringify(Object.fromEntries(fields), undefined, 2)}\n`,
  );
}
