// Rehearses a release: versions, builds, packs and publishes every package to a registry on this machine, installs what the
// READMEs say from there, runs their programs on Node 20 and on the newest Node, and throws everything away.
//   npm run release:rehearse [-- --fast]     --fast takes the installed modules and the built packages that are here
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { root } from '../packages.mjs';
import { consumers, runConsumer } from './consumers.mjs';
import { startRegistry } from './registry.mjs';

const isFast = process.argv.includes('--fast');
const started = performance.now();
const say = (text) =>
  console.log(`${((performance.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}`);

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-rehearsal-'));
const clone = path.join(folder, 'clone');
const before = stateOfUser();
let registry;
try {
  await rehearse();
} finally {
  await registry?.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
if (stateOfUser() !== before)
  throw new Error('the rehearsal has changed the settings of npm or this repository');
say('everything is thrown away; settings of npm and this repository are as before');

async function rehearse() {
  run(root, 'git', ['clone', '--quiet', root, clone]);
  const open = run(root, 'git', ['status', '--porcelain']).trim();
  if (open !== '') say('there are changes that are not committed: they are not rehearsed');
  install();
  run(clone, 'npm', ['run', 'release:version']);
  const packed = manifests();
  say(`versions: ${packed.map(({ name, version }) => `${name}@${version}`).join(' ')}`);
  build();
  run(clone, 'git', [
    '-c',
    'user.name=Rehearsal',
    '-c',
    'user.email=rehearsal@example.org',
    'commit',
    '-qam',
    'Versions',
  ]);

  registry = await startRegistry(path.join(folder, 'registry'), {
    from: run(root, 'npm', ['config', 'get', 'registry']).trim(),
  });
  const env = registry.environment;
  say(`registry on ${registry.address}`);
  run(clone, 'npx', ['--no', 'changeset', 'publish', '--no-git-tag'], env);
  for (const { name, version } of packed) {
    const found = run(folder, 'npm', ['view', `${name}@${version}`, 'version'], env).trim();
    if (found !== version) throw new Error(`${name}@${version} is not in the registry`);
  }
  say(`${packed.length} packages are published there`);

  const nodes = await nodesToRunOn(env);
  for (const consumer of consumers(clone)) {
    const outcome = await runConsumer(consumer, {
      folder,
      env,
      nodes,
      clone,
      names: packed.map(({ name }) => name),
    });
    say(`${consumer.title}: ${outcome}`);
  }
}

function install() {
  if (isFast) {
    // Links among packages are relative, so that those of the copy lead to the packages of the copy.
    const [from, to] = [path.join(root, 'node_modules'), path.join(clone, 'node_modules')];
    const { status } = spawnSync('cp', ['-al', from, to]); // as second names of the same files, where the system can
    if (status !== 0) cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    say('installed modules are copied');
  } else {
    run(clone, 'npm', ['ci', '--no-audit', '--no-fund']);
    say('installed');
  }
}

function build() {
  if (isFast) {
    for (const name of readdirSync(path.join(clone, 'packages'))) {
      const built = path.join(root, 'packages', name, 'dist');
      if (!existsSync(built)) throw new Error(`packages/${name} is not built: run "npm run build" first`);
      cpSync(built, path.join(clone, 'packages', name, 'dist'), { recursive: true });
    }
    say('built packages are copied');
  } else {
    run(clone, 'npm', ['run', 'build'], { TURBO_TELEMETRY_DISABLED: '1' });
    say('built');
  }
}

function manifests() {
  return readdirSync(path.join(clone, 'packages')).map((name) =>
    JSON.parse(readFileSync(path.join(clone, 'packages', name, 'package.json'), 'utf8')),
  );
}

/** Node 20 and the newest that npm offers, as programs. */
async function nodesToRunOn(env) {
  const place = path.join(folder, 'nodes');
  mkdirSync(place, { recursive: true });
  const system = { win32: 'win', darwin: 'darwin', linux: 'linux' }[process.platform];
  const name = `node-${system}-${process.arch}`;
  const newest = run(folder, 'npm', ['view', 'node', 'version'], env).trim();
  const [major] = process.versions.node.split('.');
  const wanted = [...(major === '20' ? [] : ['20']), newest];
  const nodes = major === '20' ? [{ version: process.versions.node, program: process.execPath }] : [];
  for (const version of wanted) {
    const own = path.join(place, version);
    mkdirSync(own);
    writeFileSync(path.join(own, 'package.json'), '{"private":true}');
    run(own, 'npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', `${name}@${version}`], env);
    const program = path.join(
      own,
      'node_modules',
      name,
      'bin',
      process.platform === 'win32' ? 'node.exe' : 'node',
    );
    nodes.push({ version: run(own, program, ['--version']).trim().slice(1), program });
  }
  say(`Node ${nodes.map(({ version }) => version).join(' and ')}`);
  return nodes;
}

/** What of the user and of the repository must stay as it is. */
function stateOfUser() {
  const hash = createHash('sha256');
  const files = [
    process.env.NPM_CONFIG_USERCONFIG,
    path.join(homedir(), '.npmrc'),
    path.join(root, '.npmrc'),
  ];
  for (const file of files) hash.update(file && existsSync(file) ? readFileSync(file) : '-');
  for (const args of [['status', '--porcelain'], ['rev-parse', 'HEAD'], ['tag']])
    hash.update(run(root, 'git', args));
  return hash.digest('hex');
}

/** Runs a program that must succeed; returns what it prints. */
function run(cwd, program, args, env = {}) {
  const shell = process.platform === 'win32' && ['npm', 'npx'].includes(program);
  const options = {
    cwd,
    encoding: 'utf8',
    shell,
    maxBuffer: 2 ** 28,
    env: { ...cleanEnvironment(), ...env },
  };
  const { status, stdout, stderr, error } = spawnSync(program, args, options);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed:\n${error ?? ''}${stdout}${stderr}`);
  return stdout;
}

/** The environment without what `npm run` adds: it would point npm at this repository. */
function cleanEnvironment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(package|lifecycle|command|config_(local_)?prefix)/i.test(name),
    ),
  );
}
