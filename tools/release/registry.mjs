// A registry on this machine that keeps our packages and fetches all others from where npm fetches them.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const VERDACCIO = '6.8.0';

/**
 * Installs and starts Verdaccio in a folder.
 * @param {string} folder
 * @param {{ from: string }} options where other packages come from
 */
export async function startRegistry(folder, { from }) {
  mkdirSync(folder, { recursive: true });
  // A dependency asks for node-fetch by a tag, which not every registry has; this is the version behind it.
  const manifest = { private: true, overrides: { 'node-fetch': '2.6.7' } };
  writeFileSync(path.join(folder, 'package.json'), JSON.stringify(manifest));
  const npm = ['install', '--no-audit', '--no-fund', '--ignore-scripts', `verdaccio@${VERDACCIO}`];
  const { status, stdout, stderr } = spawnSync('npm', npm, {
    cwd: folder,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  if (status !== 0) throw new Error(`Verdaccio cannot be installed:\n${stdout}${stderr}`);
  const port = await freePort();
  const address = `http://127.0.0.1:${port}/`;
  const own = { access: '$all', publish: '$all', unpublish: '$all' };
  const config = {
    storage: './storage',
    auth: { htpasswd: { file: './htpasswd' } },
    uplinks: { outside: { url: from, timeout: '60s', maxage: '30m' } },
    packages: {
      // Ours come from here alone: what is published elsewhere under these names must not be taken instead.
      detailflow: own,
      '@detailflow/*': own,
      '**': { access: '$all', proxy: 'outside' },
    },
    max_body_size: '200mb',
    log: { type: 'stdout', format: 'json', level: 'error' },
    web: { enable: false },
  };
  writeFileSync(path.join(folder, 'config.yaml'), JSON.stringify(config)); // JSON is YAML
  const program = path.join(folder, 'node_modules', 'verdaccio', 'bin', 'verdaccio');
  const child = spawn(
    process.execPath,
    [program, '--config', 'config.yaml', '--listen', `127.0.0.1:${port}`],
    {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const ended = new Promise((resolve) => child.once('close', resolve));
  while (!(await isUp(address))) {
    if (child.exitCode !== null) throw new Error(`Verdaccio has ended:\n${output}`);
    await delay(200);
  }
  // npm's own settings of the user are not read at all, let alone written.
  const settings = path.join(folder, 'npmrc');
  writeFileSync(
    settings,
    `registry=${address}\n//127.0.0.1:${port}/:_authToken=rehearsal\nfund=false\naudit=false\n`,
  );
  return {
    address,
    environment: {
      NPM_CONFIG_USERCONFIG: settings,
      NPM_CONFIG_REGISTRY: address,
      npm_config_registry: address, // this spelling is the one that changesets reads
      NPM_CONFIG_CACHE: path.join(folder, 'cache'),
      NPM_CONFIG_PROVENANCE: 'false',
      CI: 'true', // nobody is asked anything
    },
    async close() {
      child.kill();
      await ended;
    },
  };
}

const isUp = (address) =>
  fetch(`${address}-/ping`).then(
    ({ ok }) => ok,
    () => false,
  );

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
