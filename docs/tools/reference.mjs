// The reference from the source: pages for the site, or TypeDoc's JSON of it.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Application, Converter, ReflectionKind } from 'typedoc';
import { packages, root } from '../../tools/packages.mjs';

export const build = path.join(root, 'docs', 'build');

/** One program over the sources of all packages, so that a type of one package is linked to from all others. */
function writeConfiguration() {
  const paths = Object.fromEntries(
    packages().flatMap(({ entries }) =>
      entries.map(({ specifier, source }) => [specifier, [path.join(root, source)]]),
    ),
  );
  const config = {
    extends: path.join(root, 'tsconfig.base.json'),
    compilerOptions: {
      noEmit: true,
      paths,
      typeRoots: ['node_modules/@types', 'node_modules'].map((one) => path.join(root, one)),
    },
    files: packages().flatMap(({ entries }) => entries.map(({ source }) => path.join(root, source))),
  };
  mkdirSync(build, { recursive: true });
  const file = path.join(build, 'tsconfig.json');
  writeFileSync(file, JSON.stringify(config, undefined, 2));
  return file;
}

/**
 * TypeDoc over all packages.
 * @param {object} options further options of TypeDoc
 */
export async function reference(options) {
  const all = packages().flatMap(({ entries }) => entries);
  const app = await Application.bootstrapWithPlugins({
    name: 'Reference',
    entryPoints: all.map(({ source }) => path.join(root, source)),
    tsconfig: writeConfiguration(),
    basePath: root,
    excludePrivate: true,
    excludeInternal: true,
    readme: 'none',
    gitRevision: 'main',
    disableGit: true,
    // Without git, paths begin at the folder that all sources have in common.
    sourceLinkTemplate: `${repository()}/blob/main/packages/{path}#L{line}`,
    validation: { notExported: false, invalidLink: true, notDocumented: true },
    requiredToBeDocumented: ['Enum', 'Variable', 'Function', 'Class', 'Interface', 'TypeAlias'],
    packagesRequiringDocumentation: packages().map(({ name }) => name),
    ...options,
  });
  // Modules are called what an import says.
  const names = new Map(all.map(({ source, specifier }) => [path.join(root, source), specifier]));
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, (context) => {
    for (const module of context.project.getReflectionsByKind(ReflectionKind.Module)) {
      const name = names.get(module.sources?.[0]?.fullFileName);
      if (name) module.name = name;
    }
  });
  const project = await app.convert();
  if (!project) throw new Error('TypeDoc found errors');
  app.validate(project);
  return { app, project };
}

/** Where the sources are shown, from the root package.json. */
export function repository() {
  return packages()[0].manifest.repository.url.replace(/^git\+|\.git$/g, '');
}
