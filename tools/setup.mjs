// Installs and builds what the root commands need; does nothing where both are up to date.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runStep } from './step.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const [major] = process.versions.node.split('.').map(Number);
if (major < 20) {
  console.error(`DetailFlow needs Node 20 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', TURBO_TELEMETRY_DISABLED: '1' };
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
const modules = path.join(root, 'node_modules');

async function step(options) {
  if (!(await runStep({ cwd: root, env, ...options }))) process.exit(1);
}

const lock = createHash('sha256')
  .update(readFileSync(path.join(root, 'package-lock.json')))
  .digest('hex');
const stamp = path.join(modules, '.detailflow-setup');
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  console.error(
    'The first time, 800 MB of packages are installed and those of this repository built: from one minute to some.',
  );
  await step({
    title: 'installing',
    command: npm,
    args: ['ci', '--no-audit', '--no-fund'],
  });
  writeFileSync(stamp, lock);
}
const packages = readdirSync(path.join(root, 'packages')).length;
await step({
  title: 'building',
  command: process.execPath,
  args: [
    path.join(modules, 'turbo', 'bin', 'turbo'),
    ...['run', 'build', '--output-logs=new-only', '--log-order=stream', '--ui=stream'],
  ],
  state(output) {
    const begun = [...output.matchAll(/^(\S+):build: cache (?:miss|hit)/gm)].map(([, name]) => name);
    return begun.length === 0 ? undefined : `${begun.length} of ${packages} packages, ${begun.at(-1)}`;
  },
});
