// The reference as pages of the site: node docs/tools/write-reference.mjs
import path from 'node:path';
import { fileURLToPath } from 'node:url';
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
const { warningCount, errorCount } = app.logger;
console.log(`reference: ${project.children.length} modules, ${warningCount} warnings`);
if (warningCount + errorCount > 0) process.exit(1);
