import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { anchorsOf, deadLinks, linksOf, slug } from '../docs/tools/links.mjs';
import { pages, sidebar } from '../docs/tools/navigation.mjs';
import { apiReports, exportedNames, readSurface, wrongDescriptions } from '../tools/api-report.mjs';
import { packages } from '../tools/packages.mjs';
import { cli, inRepository } from './cli';
import { inlineCode, isNameLike, knownWords, shellCommands } from './docs-words';

// What a reader of the site would stumble over, as far as it can be known without building it.

const text = (file: string) => readFileSync(inRepository(file), 'utf8');
const sources = [...pages().map(({ source }) => source), 'docs/index.md', 'README.md'];
const surface = readSurface();
const exported = exportedNames(surface);

test('every guide is a page with a title of its own, in the sidebar', () => {
  const all = pages();
  for (const name of readdirSync(inRepository('docs/guide'))) {
    expect(all.map(({ source }) => source)).toContain(`docs/guide/${name}`);
  }
  expect(new Set(all.map(({ address }) => address)).size).toBe(all.length);
  const titles = all.map(({ title }) => title);
  expect(titles.filter((title, i) => titles.indexOf(title) !== i)).toEqual([]);
  const listed = sidebar().flatMap(({ items }) => items.map(({ link }) => link));
  for (const { address } of all) expect(listed).toContain(`/${address}`);
});

test('links lead to files and headings that are there', () => {
  expect(sources.flatMap(deadLinks)).toEqual([]);
});

test('links are told from code, and headings are found as the site names them', () => {
  const markdown = [
    'A [page](../a.md#b-c), ![picture](x.png), [`code`](y.md).',
    'Code: `[no](z.md)`.',
    '```ts',
    'const a = b[0](c.md);',
    '```',
    '## B *c*, and `d`',
  ].join('\n');
  expect(linksOf('docs/guide/one.md', markdown)).toEqual([
    { isImage: false, text: 'page', target: '../a.md#b-c', file: 'docs/a.md', anchor: 'b-c' },
    { isImage: true, text: 'picture', target: 'x.png', file: 'docs/guide/x.png', anchor: undefined },
    { isImage: false, text: '\u0001code\u0001', target: 'y.md', file: 'docs/guide/y.md', anchor: undefined },
  ]);
  expect([...anchorsOf(markdown)]).toEqual(['b-c-and-d']);
  expect(slug('Tokens, groups, codebook: how they were chosen')).toBe(
    'tokens-groups-codebook-how-they-were-chosen',
  );
});

test('a dead link of each kind is found', () => {
  expect(deadLinks('tests/fixtures/docs/dead-links.md')).toEqual([
    'tests/fixtures/docs/dead-links.md: nowhere.md: no such file',
    'tests/fixtures/docs/dead-links.md: #not-here: no such heading',
    'tests/fixtures/docs/dead-links.md: ../../../../outside.md: no such file',
    'tests/fixtures/docs/dead-links.md: /guide/start: link to the file, not to its address on the site',
  ]);
});

test('names in prose are those of the code', () => {
  const known = knownWords();
  for (const source of sources) {
    const unknown = inlineCode(text(source))
      .filter(isNameLike)
      .filter((name) => !name.match(/[\w$]+/g)?.every((word) => known.has(word)));
    expect(unknown, source).toEqual([]);
  }
});

test('names that a README lists as exports are exports, or parts of them', () => {
  const reports = apiReports(surface);
  for (const { name, folder, entries } of packages()) {
    const table =
      /^\| export \| what \|\n\|---\|---\|\n((?:\|.*\n?)+)/m.exec(text(`${folder}/README.md`))?.[1] ?? '';
    const surface = new Set((reports.get(folder) as string).match(/[\w$]+/g));
    for (const word of (reports.get('packages/core') as string).match(/[\w$]+/g) ?? []) surface.add(word);
    for (const { specifier } of entries) surface.add(specifier.slice(name.length + 1));
    const listed = [...table.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell]) =>
      [...cell.matchAll(/`(\w+)(?:\([^`]*\))?`/g)].map(([, one]) => one),
    );
    expect(
      listed.filter((one) => !surface.has(one)),
      folder,
    ).toEqual([]);
  }
});

test('everything that is exported is described', () => {
  const bare = exported.filter(({ isDocumented }) => !isDocumented);
  expect(exported.length).toBeGreaterThan(800);
  expect(bare.map(({ specifier, name }) => `${specifier}: ${name}`)).toEqual([]);
});

test('descriptions name parameters that there are, and link to what is exported', () => {
  expect(wrongDescriptions(surface)).toEqual([]);
});

test('descriptions in an editor lead to pages of the site, in every package', () => {
  const { homepage } = JSON.parse(text('package.json'));
  const addresses = new Map(pages().map(({ address, source }) => [`${address}.html`, source]));
  for (const { name, folder } of packages()) {
    const files = readdirSync(inRepository(`${folder}/src`), { recursive: true, encoding: 'utf8' });
    const code = files.filter((file) => /\.ts$/.test(file)).map((file) => text(`${folder}/src/${file}`));
    const links = code.flatMap((one) =>
      [...one.matchAll(/^ \* @see (https:\S+)$/gm)].map(([, link]) => link),
    );
    const own = links.filter((link) => link.startsWith(homepage)).map((link) => link.slice(homepage.length));
    expect(own.length, name).toBeGreaterThan(0);
    for (const [page, anchor] of own.map((link) => link.split('#'))) {
      const source = addresses.get(page);
      expect(source, `${name}: ${page}`).toBeDefined();
      if (anchor)
        expect(anchorsOf(text(source as string)).has(anchor), `${name}: ${page}#${anchor}`).toBe(true);
    }
  }
});

test('every error code has its paragraph, and every error leads there', async () => {
  const { DetailFlowError } = await import('@detailflow/core');
  const union = /export type ErrorCode =([^;]*);/.exec(text('packages/core/src/errors.ts'))?.[1] ?? '';
  const codes = [...union.matchAll(/\| '([a-z-]+)'/g)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(15);
  const file = 'docs/guide/troubleshooting.md';
  const paragraphs = [...text(file).matchAll(/^## ([a-z-]+)\n\n(\S[^#]{60,})/gm)].map(([, code]) => code);
  expect(paragraphs.sort()).toEqual([...codes].sort());
  // The site lies at the homepage, and its pages are called as their sources.
  const { homepage } = JSON.parse(text('package.json'));
  expect(text('docs/.vitepress/config.ts')).toMatch(/cleanUrls: false/);
  const address = `${homepage}guide/troubleshooting.html`;
  for (const code of codes) {
    expect(new DetailFlowError(code as 'io', 'x').help).toBe(`${address}#${code}`);
    expect(anchorsOf(text(file)).has(code)).toBe(true);
  }
});

test('commands of the guides are commands, with options that there are', async () => {
  const helps = new Map<string, string>();
  for (const source of sources) {
    for (const { verb, flags, command } of shellCommands(text(source))) {
      if (!helps.has(verb)) helps.set(verb, (await cli(['help', verb])).stdout);
      const known = new Set([...(helps.get(verb) as string).matchAll(/--[a-z-]+/g)].map(([flag]) => flag));
      expect(known.size, `${source}: ${command}`).toBeGreaterThan(1);
      expect(
        flags.filter((flag) => !known.has(flag)),
        `${source}: ${command}`,
      ).toEqual([]);
    }
  }
  expect([...helps.keys()].sort()).toEqual(
    expect.arrayContaining(['eval', 'export', 'generate', 'inspect', 'models', 'train', 'vary']),
  );
});

test('pictures of the guides are there, and the slider has one for each of its places', () => {
  const { previews, curve } = JSON.parse(text('docs/images/strip.json'));
  expect(previews.at(-1).tokens).toBe(curve.length);
  for (const [i, { side, left, resolution, tokens }] of previews.entries()) {
    expect(left).toBe(i === 0 ? 0 : previews[i - 1].left + previews[i - 1].side);
    expect(side).toBeGreaterThanOrEqual(resolution);
    expect(resolution).toBe(Math.max(1, Math.trunc(curve[tokens - 1][1])));
  }
  for (const name of [
    'growing.png',
    'strip.png',
    'self-correction.png',
    'resolution.svg',
    'attention-mask.svg',
  ]) {
    expect(existsSync(path.join(inRepository('docs/images'), name)), name).toBe(true);
  }
});

test('the playground names the classes of the model that it runs', () => {
  const { classNames } = JSON.parse(text('packages/model-emoji-64/model/config.json'));
  const line = classNames.map((name: string, i: number) => `${i} ${name}`).join(', ');
  expect(text('docs/guide/playground.md')).toContain(`Classes: ${line}.`);
  expect(text('examples/browser/vite.config.ts')).toContain('@detailflow/model-emoji-64');
});
