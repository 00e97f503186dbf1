// Links of Markdown files: where they lead in the repository, and what they become on the site.
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { root } from '../../tools/packages.mjs';

/** Splits Markdown into text and code, so that nothing inside code is taken for a link. */
const code = /(^(?:```|~~~)[^\n]*\n[\s\S]*?^(?:```|~~~)[ \t]*$|(?<!`)(`+)(?!`)[^\n]*?(?<!`)\2(?!`))/m;

/** Calls `change(text)` for all that is not code. */
export function outsideCode(markdown, change) {
  let rest = markdown;
  let out = '';
  for (let found = code.exec(rest); found; found = code.exec(rest)) {
    out += change(rest.slice(0, found.index)) + found[0];
    rest = rest.slice(found.index + found[0].length);
  }
  return out + change(rest);
}

/** `[text](target)`, `![text](target)`; the target may hold balanced brackets once. */
const link = /(!?)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)/g;

/** Code inside the text of a link is text: `[`x`](y)`. */
const protect = (markdown) =>
  markdown.replace(/\[(`[^`\n]+`)\]\(/g, (_, text) => `[${text.replaceAll('`', '\u0001')}](`);
const restore = (markdown) => markdown.replaceAll('\u0001', '`');

/**
 * @typedef {object} Link
 * @property {boolean} isImage
 * @property {string} text
 * @property {string} target as it is written
 * @property {string} [file] from the root, unless it leads elsewhere
 * @property {string} [anchor]
 */

/** Replaces links by `replace(link)`, which returns the new target. */
export function mapLinks(source, markdown, replace) {
  const changed = outsideCode(protect(markdown), (text) =>
    text.replace(link, (_, mark, label, target) => {
      const found = resolve(source, { isImage: mark === '!', text: label, target });
      return `${mark}[${label}](${replace(found)})`;
    }),
  );
  return restore(changed);
}

/** @returns {Link[]} */
export function linksOf(source, markdown) {
  const found = [];
  mapLinks(source, markdown, (one) => {
    found.push(one);
    return one.target;
  });
  return found;
}

function resolve(source, one) {
  if (/^[a-z]+:/i.test(one.target) || one.target.startsWith('/')) return one;
  const [file, anchor] = one.target.split('#');
  const place =
    file === '' ? source : path.posix.normalize(path.posix.join(path.posix.dirname(source), file));
  return { ...one, file: place.replace(/\/$/, ''), anchor };
}

/** What stands for a heading in an address, as VitePress makes it and, for plain headings, GitHub too. */
export function slug(heading) {
  return heading
    .replace(/[`*_]|<[^>]*>/g, '')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .normalize('NFKD')
    .replace(/[\u0300-\u036F]/g, '')
    .replace(/[\s~!@#$%^&*()\-+=[\]{}|\\;:"'“”‘’<>,.?/]+/g, '-')
    .replace(/-{2,}/g, '-')
    .replace(/^-+|-+$/g, '')
    .replace(/^(\d)/, '_$1')
    .toLowerCase();
}

/** All that a link may name behind `#` in a Markdown file. */
export function anchorsOf(markdown) {
  const anchors = new Set();
  outsideCodeBlocks(markdown).replace(/^#{1,6} (.+?)(?: \{#([\w-]+)\})?$/gm, (_, heading, own) => {
    anchors.add(own ?? slug(heading));
    return '';
  });
  for (const [, id] of markdown.matchAll(/<a id="([\w-]+)"/g)) anchors.add(id);
  return anchors;
}

const outsideCodeBlocks = (markdown) => markdown.replace(/^```[\s\S]*?^```/gm, '');

/** What is wrong with the links of a Markdown file. */
export function deadLinks(source) {
  const markdown = readFileSync(path.join(root, source), 'utf8');
  return linksOf(source, markdown).flatMap(({ target, file, anchor }) => {
    if (target.startsWith('/'))
      return [`${source}: ${target}: link to the file, not to its address on the site`];
    if (file === undefined) return [];
    const full = path.join(root, file);
    if (file.startsWith('..') || !existsSync(full)) return [`${source}: ${target}: no such file`];
    if (!anchor || !file.endsWith('.md') || statSync(full).isDirectory()) return [];
    return anchorsOf(readFileSync(full, 'utf8')).has(anchor) ? [] : [`${source}: ${target}: no such heading`];
  });
}
