import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { namesIn, unreadNames } from './golden-names';

const folder = new URL('./fixtures/golden/family/', import.meta.url);
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => /(^|\/)(golden\w*\.(json|safetensors)|ops\.safetensors|tables\.json)$/.test(file))
  .sort();

/** Lines of the README that say which names are not read: "* `FILE`: `NAME`, `NAME`: why", where * stands for anything. */
const omissions = readFileSync(new URL('README.md', folder), 'utf8')
  .split('\n')
  .flatMap((line) => {
    const [, file, names] = /^\* `([^`]+)`: ((?:`[^`]+`(?:, )?)+): .+$/.exec(line) ?? [];
    const pattern = (text: string) => new RegExp(`^${text.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
    return file
      ? [...names.matchAll(/`([^`]+)`/g)].map(([, name]) => ({
          ...{ line: `${file}: ${name}`, file: pattern(file), name: pattern(name) },
        }))
      : [];
  });

const unread = unreadNames(files.map((file) => `family/${file}`));

test('the golden files of all families are found', () => {
  expect(files.length).toBe(18);
  expect(files.flatMap((file) => namesIn(`family/${file}`)).length).toBeGreaterThan(500);
});

test.each(files)('every value of %s is read by a test, or the README says why not', (file) => {
  const isListed = (name: string) => omissions.some((one) => one.file.test(file) && one.name.test(name));
  expect(unread[`family/${file}`].filter((name) => !isListed(name))).toEqual([]);
});

test('the README lists only what is there and not read', () => {
  const stale = omissions.filter(
    (one) =>
      !files.some(
        (file) => one.file.test(file) && unread[`family/${file}`].some((name) => one.name.test(name)),
      ),
  );
  expect(stale.map(({ line }) => line)).toEqual([]);
});
