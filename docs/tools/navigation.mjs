// Which pages the site has, in which order. Titles are the first heading of each file.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { packages, root } from '../../tools/packages.mjs';

/** Guides by group: names of files in docs/guide. */
const guides = {
  Begin: ['start', 'how-it-works', 'choose-a-model', 'dtype-and-device'],
  'Try it here': ['draw', 'playground', 'tokens'],
  Use: ['previews', 'vary', 'train', 'evaluate', 'onnx-python', 'hub'],
  Build: ['browser', 'node-servers', 'serve', 'many-machines', 'ai-sdk'],
  Help: ['troubleshooting', 'migration'],
};

/** Files of the repository that are pages, by group: source from the root, address on the site. */
const documents = {
  'The house': [
    ['ARCHITECTURE.md', 'house/architecture'],
    ['docs/guide/add-a-backend.md', 'house/add-a-backend'],
    ['docs/guide/add-a-family.md', 'house/add-a-family'],
    ['docs/guide/add-an-operation.md', 'house/add-an-operation'],
    ['CONTRIBUTING.md', 'house/contributing'],
    ['BENCHMARKS.md', 'house/benchmarks'],
  ],
  Definitions: [
    ['docs/method.md', 'definitions/method'],
    ['docs/metrics.md', 'definitions/metrics'],
    ['docs/training.md', 'definitions/training'],
    ['docs/runs.md', 'definitions/runs'],
    ['docs/reading-images.md', 'definitions/reading-images'],
  ],
};

/**
 * @typedef {object} Page
 * @property {string} source from the root
 * @property {string} address on the site, without a leading slash
 * @property {string} title
 * @property {string} group
 */

/** @returns {Page[]} all pages but the reference and the changelog */
export function pages() {
  const listed = new Map();
  const add = (group, source, address) =>
    listed.set(source, { group, source, address, title: titleOf(source) });
  for (const [group, names] of Object.entries(guides)) {
    for (const name of names) add(group, `docs/guide/${name}.md`, `guide/${name}`);
  }
  for (const [group, files] of Object.entries(documents)) {
    for (const [source, address] of files) add(group, source, address);
  }
  for (const name of markdownOf('docs/family'))
    add('Definitions', `docs/family/${name}`, `definitions/${stem(name)}`);
  for (const { short, folder } of packages()) {
    if (existsSync(path.join(root, folder, 'README.md'))) {
      add('Packages', `${folder}/README.md`, `packages/${short}`);
    }
  }
  // What is not named above is no less a page: it comes last in its group.
  for (const name of markdownOf('docs/guide')) {
    if (!listed.has(`docs/guide/${name}`)) add('Use', `docs/guide/${name}`, `guide/${stem(name)}`);
  }
  for (const name of markdownOf('docs')) {
    if (name !== 'index.md' && !listed.has(`docs/${name}`))
      add('Definitions', `docs/${name}`, `definitions/${stem(name)}`);
  }
  return [...listed.values()];
}

const stem = (name) => name.replace(/\.md$/, '');

function markdownOf(folder) {
  return readdirSync(path.join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .sort();
}

function titleOf(source) {
  const text = readFileSync(path.join(root, source), 'utf8');
  const title = /^# (.+)$/m.exec(text)?.[1];
  if (!title) throw new Error(`${source} has no heading`);
  return title.replaceAll('`', '');
}

/** The sidebar of VitePress, all groups but the reference. */
export function sidebar() {
  const all = pages();
  const groups = [...new Set(all.map(({ group }) => group))];
  const items = (group) =>
    all
      .filter((page) => page.group === group)
      .map(({ title, address }) => ({ text: title, link: `/${address}` }));
  return groups.map((group) => ({
    text: group,
    items:
      group === 'The house'
        ? [...items(group), { text: 'Changelog', link: '/house/changelog' }]
        : items(group),
  }));
}
