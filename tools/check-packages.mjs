// Packs every package as npm would publish it, and looks at each tarball: publint and "are the types wrong".
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

// The packages are ESM only: `require` and resolvers that know no `exports` are not served.
const resolutions = ['node16-esm', 'bundler'];

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-pack-'));
let faults = 0;
try {
  const output = execFileSync(
    'npm',
    ['pack', '--workspace', 'packages', '--ignore-scripts', '--json', '--pack-destination', folder],
    { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], shell: process.platform === 'win32' },
  );
  for (const { name, filename, files } of JSON.parse(output)) {
    if (!files.some((file) => file.path.startsWith('dist/'))) {
      throw new Error(`${name} is not built: run "npm run build" first`);
    }
    const bytes = readFileSync(path.join(folder, filename));
    const found = [...(await lint(bytes)), ...(await types(bytes))];
    for (const line of found) console.error(`${name}: ${line}`);
    faults += found.length;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (faults > 0) process.exit(1);

async function lint(bytes) {
  const tarball = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const { messages, pkg } = await publint({ pack: { tarball }, strict: true });
  // Bundlers leave a module of somebody else out by the field `browser` alone: `imports` can only put another in the place of our own.
  const isMeant = ({ code }) =>
    code === 'USE_EXPORTS_OR_IMPORTS_BROWSER' && Object.values(pkg.browser).every((value) => value === false);
  return messages
    .filter((message) => !isMeant(message))
    .map((message) => `${message.type}: ${formatMessage(message, pkg)}`);
}

async function types(bytes) {
  const { problems } = await checkPackage(createPackageFromTarballData(new Uint8Array(bytes)));
  return problems
    .filter(({ resolutionKind }) => resolutionKind === undefined || resolutions.includes(resolutionKind))
    .map(({ trace: _, ...problem }) => `types: ${JSON.stringify(problem)}`);
}
