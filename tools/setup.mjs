// Installs and builds what the root commands need; does nothing where both are up to date.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const [major] = process.versions.node.split('.').map(Number);
if (major < 20) {
  console.error(`DetailFlow needs Node 20 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', TURBO_TELEMETRY_DISABLED: '1' };
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
const quiet = { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] };

function step(title, command, args) {
  const started = performance.now();
  process.stderr.write(`${title} ... `);
  try {
    execFileSync(command, args, quiet);
  } catch (error) {
    process.stderr.write(`failed\n${error.stdout ?? ''}${error.stderr ?? ''}\n`);
    process.exit(1);
  }
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(1)} s\n`);
}

const lock = createHash('sha256')
  .update(readFileSync(path.join(root, 'package-lock.json')))
  .digest('hex');
const stamp = path.join(root, 'node_modules', '.detailflow-setup');
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  step('installing', npm, ['ci', '--no-audit', '--no-fund']);
  writeFileSync(stamp, lock);
}
step('building', process.execPath, [
  path.join(root, 'node_modules', 'turbo', 'bin', 'turbo'),
  'run',
  'build',
  '--output-logs=errors-only',
]);
