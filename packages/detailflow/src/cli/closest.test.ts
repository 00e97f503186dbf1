import { expect, test } from 'vitest';
import { closest } from './closest';

const words = [
  'generate',
  'encode',
  'decode',
  'reconstruct',
  'vary',
  'inspect',
  'convert',
  'export',
  'train',
  'eval',
];

test.each([
  ['genrate', 'generate'],
  ['Generate', 'generate'],
  ['gen', 'generate'],
  ['generates', 'generate'],
  ['decdoe', 'decode'],
  ['reconstuct', 'reconstruct'],
  ['evla', 'eval'],
  ['evaluate', 'eval'],
  ['draw', undefined],
  ['x', undefined],
  ['', undefined],
  ['a'.repeat(100_000), undefined],
])('%.20s: %s', (given, meant) => {
  expect(closest(given, words)).toBe(meant);
});
