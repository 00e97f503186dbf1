// Projects as the READMEs have them: what they install, and the programs they run.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { packages } from '../packages.mjs';
import { provideDriver } from '../webgpu/driver.mjs';

const webgpuMissing = provideDriver();

/**
 * @typedef {object} Consumer
 * @property {string} title
 * @property {readonly string[]} install what is installed, as the READMEs say
 * @property {readonly { name: string, code: string }[]} programs JavaScript
 */

/** @returns {Consumer[]} the project of README.md, and one with all that the packages' READMEs install */
export function consumers(folder) {
  const all = packages().map(({ short, folder: place }) => ({
    short,
    text: readFileSync(path.join(folder, place, 'README.md'), 'utf8'),
  }));
  const front = readFileSync(path.join(folder, 'README.md'), 'utf8');
  const [first] = programsOf('README', front);
  return [
    { title: 'README.md', install: installed(/^npm install (.*)$/m.exec(front)?.[1]), programs: [first] },
    {
      title: 'READMEs of the packages',
      install: [
        ...new Set([
          ...all.flatMap(({ text }) => installed(/^ {4}npm install (.*)$/m.exec(text)?.[1])),
          'webgpu',
        ]),
      ],
      programs: all.flatMap(({ short, text }) => programsOf(short, text)),
    },
  ];
}

const installed = (line = '') => line.split(' ').filter((word) => word !== '' && !word.startsWith('-'));

function programsOf(name, markdown) {
  return [...markdown.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code], i) => ({
    name: `${name}-${i + 1}`,
    code: ts.transpileModule(code, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    }).outputText,
  }));
}

/** Installs a project from the registry and runs its programs on every Node. */
export async function runConsumer(consumer, { folder, env, nodes, clone, names }) {
  const place = path.join(folder, consumer.title.replace(/\W+/g, '-'));
  mkdirSync(path.join(place, 'tests'), { recursive: true });
  symlinkSync(path.join(clone, 'tests', 'fixtures'), path.join(place, 'tests', 'fixtures'), 'junction');
  writeFileSync(
    path.join(place, 'package.json'),
    JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  );
  const shell = process.platform === 'win32';
  const npm = (...args) =>
    promisify(execFile)('npm', args, {
      cwd: place,
      env: { ...process.env, ...env },
      shell,
      maxBuffer: 2 ** 26,
    });
  await npm('install', '--ignore-scripts', ...consumer.install);
  await npm('ls', '--all'); // fails where a dependency is missing or is not of the version asked for
  const lock = JSON.parse(readFileSync(path.join(place, 'package-lock.json'), 'utf8'));
  for (const [where, { version, integrity }] of Object.entries(lock.packages)) {
    const name = where.replace(/^.*node_modules\//, '');
    if (!names.includes(name)) continue;
    const published = await (await fetch(`${env.NPM_CONFIG_REGISTRY}${name.replace('/', '%2f')}`)).json();
    if (published.versions?.[version]?.dist.integrity !== integrity)
      throw new Error(`${name}@${version} is not what was published`);
  }
  let ran = 0;
  for (const { version, program } of nodes) {
    // What the programs wrote on the Node before would be in their way.
    for (const written of ['out', 'runs'])
      rmSync(path.join(place, written), { recursive: true, force: true });
    for (const { name, code } of consumer.programs) {
      if (code.includes('createWebGPUBackend') && webgpuMissing) {
        console.warn(`${name} IS NOT RUN: ${webgpuMissing}`);
        continue;
      }
      writeFileSync(path.join(place, `${name}.js`), code);
      try {
        const { stdout } = await promisify(execFile)(program, [`${name}.js`], {
          cwd: place,
          maxBuffer: 2 ** 26,
        });
        if (stdout === '') throw new Error('it printed nothing');
      } catch (error) {
        throw new Error(`${name} on Node ${version}: ${error.stderr || error.message}`, { cause: error });
      }
      ran++;
    }
  }
  if (!existsSync(path.join(place, 'node_modules')) || ran === 0)
    throw new Error(`${consumer.title}: nothing was run`);
  return `${Object.keys(lock.packages).length - 1} packages installed, ${ran} runs of ${consumer.programs.length} programs`;
}
