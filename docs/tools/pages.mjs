// Puts the pages of the site together in docs/build/pages: guides, files of the repository, READMEs, changelog.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { packages, root } from '../../tools/packages.mjs';
import { mapLinks } from './links.mjs';
import { pages } from './navigation.mjs';

const build = path.join(root, 'docs', 'build', 'pages');
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const repository = manifest.repository.url.replace(/^git\+|\.git$/g, '');

/** Writes all pages but the reference. */
export function writePages() {
  rmSync(build, { recursive: true, force: true });
  const all = pages();
  const addresses = new Map(all.map(({ source, address }) => [source, address]));
  for (const { short } of packages()) addresses.set(`packages/${short}`, `packages/${short}`);
  addresses.set('README.md', '').set('.changeset', 'house/changelog');
  const place = (address, text) => {
    const file = path.join(build, `${address}.md`);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  };
  const rewritten = (source) => {
    const text = readFileSync(path.join(root, source), 'utf8');
    return withFiles(
      withPackages(
        mapLinks(source, text, (link) => targetOnSite(link, addresses)),
        rewritten,
      ),
    );
  };
  for (const { source, address } of all) place(address, edited(source) + rewritten(source));
  place('index', rewritten('docs/index.md'));
  place('house/changelog', changelog());
  // Shown by components, so that no link of a page leads there.
  const pictures = path.join(build, 'public', 'pictures');
  mkdirSync(pictures, { recursive: true });
  for (const name of ['strip.png', 'hero.png'])
    cpSync(path.join(root, 'docs', 'images', name), path.join(pictures, name));
  if (existsSync(path.join(root, 'docs', 'public'))) {
    cpSync(path.join(root, 'docs', 'public'), path.join(build, 'public'), { recursive: true });
  }
}

/** `<!-- file: PATH -->` becomes the file as code. */
const withFiles = (text) =>
  text.replace(/^<!-- file: (\S+) -->$/gm, (_, file) => {
    const code = readFileSync(path.join(root, file), 'utf8');
    return `\`\`\`${path.extname(file) === '.py' ? 'python' : 'ts'}\n${code}\`\`\``;
  });

/** `<!-- package: NAME, until then: TEXT -->` becomes the README of a package where there is one, else the text. */
const withPackages = (text, readme) =>
  text.replace(/^<!-- package: ([\w-]+), until then: (.*) -->$/gm, (_, name, instead) =>
    existsSync(path.join(root, 'packages', name, 'README.md'))
      ? readme(`packages/${name}/README.md`).replace(/^# .*\n/m, '')
      : instead,
  );

/** Front matter with the file behind a page, for "edit this page". */
const edited = (source) => (source.startsWith('docs/guide/') ? '' : `---\nsource: ${source}\n---\n\n`);

/** Where a link of a file leads on the site: a page, a picture, or the file in the repository. */
function targetOnSite({ target, file, anchor, isImage }, addresses) {
  if (file === undefined) return target;
  const full = path.join(root, file);
  if (isImage) {
    const name = file.replace(/\//g, '-').replace(/^docs-images-/, '');
    mkdirSync(path.join(build, 'public', 'pictures'), { recursive: true });
    cpSync(full, path.join(build, 'public', 'pictures', name));
    return `/pictures/${name}`;
  }
  const hash = anchor ? `#${anchor}` : '';
  const address = addresses.get(file);
  if (address !== undefined) return `/${address}${hash}`;
  if (!existsSync(full)) throw new Error(`a link leads to ${file}, which is not there`);
  return `${repository}/${statSync(full).isDirectory() ? 'tree' : 'blob'}/main/${file}${hash}`;
}

/** What the packages' changelogs say, and what waits for the next release. */
function changelog() {
  const folder = path.join(root, '.changeset');
  const pending = readdirSync(folder)
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .map((name) => {
      const [, packagesOf, text] =
        /^---\n(.*?)\n---\n+(.*)$/s.exec(readFileSync(path.join(folder, name), 'utf8')) ?? [];
      if (text === undefined) throw new Error(`.changeset/${name} is no changeset`);
      const names = [...packagesOf.matchAll(/^['"]?([^'":]+)['"]?: (\w+)$/gm)];
      return { names: names.map(([, one, bump]) => `${one} (${bump})`), text: text.trim() };
    });
  const released = packages()
    .map(({ folder: place }) => path.join(root, place, 'CHANGELOG.md'))
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8').replace(/^#/gm, '##'));
  const waiting = pending.map(({ names, text }) => `${text}\n\n*${names.join(', ')}*\n`);
  return [
    '# Changelog\n',
    'Every package has versions of its own, by [semantic versioning](https://semver.org). Before 1.0 a minor version may change the interface.\n',
    ...(waiting.length > 0 ? ['## Waiting for the next release\n', ...waiting] : []),
    ...released,
  ].join('\n');
}
