// The reference as pages of the site: node docs/tools/write-reference.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { packages } from '../../tools/packages.mjs';
import { build, reference } from './reference.mjs';

const plugin = (name) => fileURLToPath(import.meta.resolve(name));
const pages = path.join(build, 'pages');
const { app, project } = await reference({
  plugin: ['typedoc-plugin-markdown', 'typedoc-vitepress-theme'].map(plugin),
  out: path.join(pages, 'reference'),
  docsRoot: pages,
  router: 'module',
  entryFileName: 'index',
  hidePageHeader: true,
  hideBreadcrumbs: true,
  useCodeBlocks: true,
  useHTMLAnchors: true,
  expandObjects: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  typeDeclarationFormat: 'table',
  enumMembersFormat: 'table',
  propertyMembersFormat: 'table',
  sort: ['alphabetical'],
  treatWarningsAsErrors: true,
});
await app.generateOutputs(project);
writeFirstPage(path.join(pages, 'reference', 'index.md'));
const { warningCount, errorCount } = app.logger;
console.log(`reference: ${project.children.length} modules, ${warningCount} warnings`);
if (warningCount + errorCount > 0) process.exit(1);

/** TypeDoc lists modules by name alone: what each is for stands in its package.json. */
function writeFirstPage(file) {
  const listed = new Map(
    [...readFileSync(file, 'utf8').matchAll(/^- \[(.+?)\]\((.+?)\)$/gm)].map(([, name, link]) => [
      name,
      link,
    ]),
  );
  const rows = packages().flatMap(({ manifest, entries }) =>
    entries.map(({ specifier }) => {
      const link = listed.get(specifier);
      if (!link) throw new Error(`TypeDoc has no page of ${specifier}`);
      const part = specifier.slice(manifest.name.length + 1);
      const what =
        part === '' ? manifest.description : `of it: ${part === 'node' ? 'files, for Node' : part}`;
      return `| [${specifier}](${link}) | ${what} |`;
    }),
  );
  if (rows.length !== listed.size) throw new Error(`${rows.length} modules of ${listed.size} are known`);
  const text = [
    '# Reference\n',
    'Every exported name, from the sources. Programs in Node begin with [detailflow](detailflow.md); pages are composed of the packages.\n',
    '| module | what |\n|---|---|',
    ...rows,
  ];
  writeFileSync(file, `${text.join('\n')}\n`);
}
