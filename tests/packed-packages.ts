import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { inRepository } from './cli';

/** The environment of a user's shell, without what `npm run` and the .npmrc of this repository add. */
export const environment: NodeJS.ProcessEnv = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) =>
        !/^(npm_(package|lifecycle|command|config_(local_prefix|prefix|onnxruntime|ignore_scripts))|VITEST|NODE_ENV)/i.test(
          name,
        ),
    ),
  ),
  ONNXRUNTIME_NODE_INSTALL: 'skip',
};

/** Runs a program that must succeed; returns what it prints. */
export async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  const options = {
    cwd,
    env: environment,
    shell: process.platform === 'win32' && command !== process.execPath,
    maxBuffer: 2 ** 26,
  };
  try {
    return (await promisify(execFile)(command, args, options)).stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

/** Every package as npm would publish it, and empty projects outside the repository that install them. */
export interface PackedPackages {
  /** Package -> its tarball. */
  readonly tarballs: Readonly<Record<string, string>>;
  /**
   * A project that asks for these packages only. The packages that they need come from the tarballs too, which is what
   * the registry does once they are published.
   */
  project(name: string, ...packages: string[]): Promise<string>;
  /** A project before anything is installed, where every package but `packages` comes from its tarball. */
  emptyProject(
    name: string,
    packages: readonly string[],
    dependencies?: Readonly<Record<string, string>>,
  ): string;
  remove(): void;
}

/** Packs every package. Installing needs the npm registry. */
export async function packPackages(): Promise<PackedPackages> {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-install-'));
  const pack = ['pack', '--workspace', 'packages', '--ignore-scripts', '--json'];
  const packed: { name: string; filename: string }[] = JSON.parse(
    await run(inRepository('.'), 'npm', ...pack, '--pack-destination', folder),
  );
  const tarballs = Object.fromEntries(
    packed.map(({ name, filename }) => [name, path.join(folder, filename)]),
  );
  const source = (one: string): [string, string] => [one, `file:${tarballs[one]}`];
  const emptyProject: PackedPackages['emptyProject'] = (name, packages, dependencies) => {
    const place = path.join(folder, name);
    mkdirSync(place);
    const others = Object.keys(tarballs).filter((one) => !packages.includes(one));
    const overrides = Object.fromEntries(others.map(source));
    const manifest = { name, private: true, type: 'module', dependencies, overrides };
    writeFileSync(path.join(place, 'package.json'), JSON.stringify(manifest));
    return place;
  };
  return {
    tarballs,
    emptyProject,
    async project(name, ...packages) {
      const place = emptyProject(name, packages, Object.fromEntries(packages.map(source)));
      await run(place, 'npm', 'install', '--no-audit', '--no-fund');
      return place;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
