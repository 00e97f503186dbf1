import { expect, test } from 'vitest';
import { hubAddressText, parseHubAddress } from './address';
import { matchesPattern } from './patterns';

test.each([
  ['hf:acme/tiny', 'model', 'acme/tiny', 'main', ''],
  ['hf://acme/tiny', 'model', 'acme/tiny', 'main', ''],
  ['hf:acme/tiny@v1.0/ar/checkpoints/', 'model', 'acme/tiny', 'v1.0', 'ar/checkpoints'],
  ['hf:acme/tiny@refs/pr/3/x.json', 'model', 'acme/tiny', 'refs/pr/3', 'x.json'],
  ['hf:acme/tiny@feature%2Fx', 'model', 'acme/tiny', 'feature/x', ''],
  ['hf:datasets/acme/pictures/train.npz', 'dataset', 'acme/pictures', 'main', 'train.npz'],
  ['hf:models/acme/tiny', 'model', 'acme/tiny', 'main', ''],
])('%s', (text, type, repository, revision, path) => {
  const address = { type, repository, revision, path };
  expect(parseHubAddress(text)).toEqual(address);
  expect(parseHubAddress(hubAddressText(parseHubAddress(text)))).toEqual(address);
});

test.each([
  'hf:',
  'hf:acme',
  'hf:acme/',
  'hf:/tiny',
  'hf:../tiny',
  'hf:acme/..',
  'hf:acme/tiny/../x',
  'hf:acme/tiny//x',
  'hf:acme/tiny/a\\b',
  'hf:acme/tiny@',
  'hf:acme/tiny@a@b',
  'hf:acme/tiny@..%2F..%2Fx',
  'hf:acme/tiny@%2Fetc',
  'hf:acme/tiny@%zz',
  'hf:acme/ti--ny',
  'hf:acme/ti ny',
  'hf:acme/tiny?x=1',
  `hf:acme/${'a'.repeat(100)}`,
  'acme/tiny',
  'https://acme/tiny',
])('%j is refused', (text) => {
  expect(() => parseHubAddress(text)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});

// Recorded from fnmatch.fnmatchcase of Python.
test.each([
  ['a/b.json', '*.json', true],
  ['a/b.json', '*', true],
  ['a/b.json', 'a/', true],
  ['a/b.json', 'b/', false],
  ['a/b.json', 'a/?.json', true],
  ['a/b.json', 'a?b.json', true],
  ['a/b.json', 'a/[abc].json', true],
  ['a/b.json', 'a/[!abc].json', false],
  ['a/b.json', 'a/[a-c].json', true],
  ['a/b.json', 'a/[c-a].json', false],
  ['a[1].pt', 'a[[]1].pt', true],
  ['a[.pt', 'a[.pt', true],
  ['a].pt', 'a[]].pt', true],
  ['axb.JSON', '*.json', false],
  ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab', '*a*a*a*a*a*a*a*a*a*c', false],
])('%s fits %s: %s', (path, pattern, fits) => {
  expect(matchesPattern(path, [pattern])).toBe(fits);
});
