import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startRegistry } from '../tools/release/registry.mjs';
import { inRepository } from './cli';
import { environment, type PackedPackages, packPackages, run } from './packed-packages';

// The Containerfile, built by buildah and run without any privilege of a container engine. Its base image is made of the programs
// of this machine, since no registry of images is asked. Needs the npm registry, for Verdaccio and what our packages depend on.

const isThere =
  process.platform === 'linux' &&
  process.getuid?.() === 0 &&
  spawnSync('buildah', ['--version']).status === 0;
if (!isThere) console.warn('THE CONTAINER IS NOT BUILT: it takes buildah, and root on Linux');

describe.runIf(isThere)('the Containerfile of the server', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-container-'));
  const buildah = (...args: string[]) =>
    run(
      folder,
      'buildah',
      ...['--storage-driver', 'vfs', '--root', `${folder}/images`, '--runroot', `${folder}/run`],
      ...args,
    );
  let packed: PackedPackages;
  let registry: Awaited<ReturnType<typeof startRegistry>>;
  let server: ChildProcess | undefined;

  beforeAll(async () => {
    packed = await packPackages();
    const from = (await run(folder, 'npm', 'config', 'get', 'registry')).trim();
    registry = await startRegistry(path.join(folder, 'registry'), { from });
    for (const tarball of Object.values(packed.tarballs)) {
      const { status, stderr } = spawnSync('npm', ['publish', tarball, '--access', 'public'], {
        ...{ cwd: folder, encoding: 'utf8', env: { ...environment, ...registry.environment } },
      });
      expect([status, stderr]).toEqual([0, expect.anything()]);
    }
    writeBase(path.join(folder, 'base'), registry.address);
    const base = (await buildah('from', '--name', 'base', 'scratch')).trim();
    await buildah('copy', base, path.join(folder, 'base'), '/');
    await buildah('commit', base, 'docker.io/library/node:20-slim');
  });
  afterAll(async () => {
    server?.kill('SIGKILL');
    await registry?.close();
    packed?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  test('is built, draws for a client, and ends when it is told to', async () => {
    const how = ['--isolation', 'chroot', '--network', 'host'];
    await buildah(
      'build',
      ...how,
      '--pull-never',
      '--format',
      'docker',
      '-t',
      'server',
      '-f',
      inRepository('packages/serve/Containerfile'),
      folder,
    );
    const { Docker } = JSON.parse(await buildah('inspect', '--type', 'image', 'server'));
    const { User, WorkingDir, Entrypoint, Cmd, Healthcheck, StopSignal } = Docker.config;
    expect({ User, WorkingDir, StopSignal }).toEqual({
      User: 'node',
      WorkingDir: '/srv/detailflow',
      StopSignal: 'SIGTERM',
    });
    const name = (await buildah('from', '--pull-never', '--name', 'running', 'server')).trim();
    const at = String(await freePort());
    const inside = (...command: string[]) => ['run', ...how, name, '--', ...command];
    const program = ['--storage-driver', 'vfs', '--root', `${folder}/images`, '--runroot', `${folder}/run`];
    server = spawn('buildah', [...program, ...inside(...Entrypoint, ...Cmd, '--port', at)], {
      ...{ cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], env: environment },
    });
    let said = '';
    server.stdout?.on('data', (data) => (said += data));
    const isHealthy = async () => {
      const [, ...check] = Healthcheck.Test as string[];
      const command = check.map((word) => word.replace(':8000', `:${at}`));
      return (
        spawnSync('buildah', [...program, ...inside(...command)], { cwd: folder, env: environment })
          .status === 0
      );
    };
    await expect.poll(isHealthy, { timeout: 120_000, interval: 1000 }).toBe(true);
    const client = new OpenAI({ apiKey: 'any', baseURL: `http://127.0.0.1:${at}/v1`, maxRetries: 0 });
    const { data } = await client.images.generate({ prompt: 'bag', ...{ seed: 3 } });
    const drawn = await sharp(Buffer.from(data?.[0].b64_json ?? '', 'base64')).metadata();
    expect(drawn).toMatchObject({ format: 'png', width: 32, height: 32 });

    // Another user than root, as whom it was built.
    const [pid] = serverProcesses(at);
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\s+1000\s+1000/m);
    const ended = once(server, 'close');
    process.kill(pid, StopSignal);
    expect((await ended)[0]).toBe(0);
    expect(said).toMatch(/"event":"stopped"/);
  });
});

/** Processes of Node that serve on a port. */
const serverProcesses = (port: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
        return words[0].endsWith('node') && words.includes('serve') && words.includes(port);
      } catch {
        return false; // it has just ended
      }
    })
    .map(Number);

/** What node:20-slim has of what the Containerfile uses: Node, npm, a shell, and a user `node`, with the libraries that they need. */
function writeBase(place: string, registry: string): void {
  const npm = realpathSync(
    path.join(path.dirname(realpathSync(process.execPath)), '../lib/node_modules/npm'),
  );
  const programs: Record<string, string> = { node: process.execPath, sh: '/bin/sh', env: '/usr/bin/env' };
  const take = (file: string, as = file) => {
    mkdirSync(path.join(place, path.dirname(as)), { recursive: true });
    cpSync(realpathSync(file), path.join(place, as), { recursive: true });
  };
  for (const [name, file] of Object.entries(programs)) {
    take(file, `/usr/bin/${name}`);
    for (const [library] of spawnSync('ldd', [file], { encoding: 'utf8' }).stdout.matchAll(/\/\S+/g))
      take(library);
  }
  for (const file of ['/bin/sh']) take(file);
  for (const library of readdirSync('/lib/x86_64-linux-gnu').filter((one) =>
    /^lib(nss_files|nss_dns|resolv|stdc\+\+|gcc_s|rt|dl|m|pthread)[.-]/.test(one),
  ))
    if (existsSync(`/lib/x86_64-linux-gnu/${library}`)) take(`/lib/x86_64-linux-gnu/${library}`);
  take(npm, '/usr/lib/node_modules/npm');
  writeFileSync(
    path.join(place, 'usr/bin/npm'),
    '#!/bin/sh\nexec node /usr/lib/node_modules/npm/bin/npm-cli.js "$@"\n',
    { mode: 0o755 },
  );
  for (const one of ['etc', 'tmp', 'root', 'home/node', 'dev', 'proc', 'sys', 'usr/etc'])
    mkdirSync(path.join(place, one), { recursive: true });
  writeFileSync(
    path.join(place, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n',
  );
  writeFileSync(path.join(place, 'etc/group'), 'root:x:0:\nnode:x:1000:\n');
  writeFileSync(path.join(place, 'usr/etc/npmrc'), `registry=${registry}\n`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
