// Builds the site into docs/build/site, or shows it: node docs/tools/site.mjs [build | serve [--port N] | reference]

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const docs = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const root = path.dirname(docs);
const [command = 'build', ...rest] = process.argv.slice(2);
const modules = path.join(docs, 'node_modules');

/** Runs a program that must succeed, in the folder of the site. */
function run(program, args, cwd = docs) {
  const { status } = spawnSync(program, args, { cwd, stdio: 'inherit', shell: program.endsWith('.cmd') });
  if (status !== 0) process.exit(status ?? 1);
}
const node = (...args) => run(process.execPath, args);

/** The tools of the site have a lock of their own, so that whoever tests the packages need not install them. */
function install() {
  const lock = createHash('sha256')
    .update(readFileSync(path.join(docs, 'package-lock.json')))
    .digest('hex');
  const stamp = path.join(modules, '.site-setup');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  console.error('Installing the tools of the site (160 MB) ...');
  run(process.platform === 'win32' ? 'npm.cmd' : 'npm', [
    'ci',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
  ]);
  writeFileSync(stamp, lock);
}

const vitepress = path.join(modules, 'vitepress', 'bin', 'vitepress.js');

install();
if (command === 'build') {
  const { writePages } = await import('./pages.mjs');
  writePages();
  node('tools/write-reference.mjs');
  const draw = path.join(docs, 'build', 'pages', 'public', 'draw');
  const vite = path.join(root, 'node_modules', 'vite', 'bin', 'vite.js');
  run(
    process.execPath,
    [vite, 'build', '--outDir', draw, '--emptyOutDir'],
    path.join(root, 'examples', 'browser'),
  );
  node(vitepress, 'build', '.');
} else if (command === 'reference') {
  node('tools/write-reference.mjs');
} else if (command === 'serve') {
  if (!existsSync(path.join(docs, 'build', 'site', 'index.html')))
    node(fileURLToPath(import.meta.url), 'build');
  node(vitepress, 'preview', '.', ...rest);
} else {
  console.error(`There is no "${command}": give build, serve or reference.`);
  process.exit(2);
}
