import { expect, test } from 'vitest';
import { UsageError } from './command';
import { parseList, Values } from './values';

const values = (options: Record<string, string | boolean>) =>
  new Values({ values: options } as unknown as ConstructorParameters<typeof Values>[0]);

test('numbers, with bounds', () => {
  const given = values({ a: '0.5', b: '-2', c: '1e3', d: '', e: 'x', f: 'Infinity' });
  expect([given.number('a'), given.number('b'), given.whole('c'), given.number('none')]).toEqual([
    0.5,
    -2,
    1000,
    undefined,
  ]);
  expect(() => given.whole('a')).toThrow('--a 0.5: give a whole number from 0');
  expect(() => given.number('b', { least: -1, most: 1 })).toThrow('--b -2: give a number from -1 to 1');
  expect(() => given.whole('c', { most: 999 })).toThrow('--c 1000: give a whole number from 0 to 999');
  for (const name of ['d', 'e', 'f']) expect(() => given.number(name)).toThrow(UsageError);
});

test('texts, flags and choices', () => {
  const given = values({ text: 'boot', flag: true });
  expect([given.text('text'), given.flag('flag'), given.flag('other')]).toEqual(['boot', true, false]);
  expect(() => given.required('other')).toThrow('--other is missing');
  expect(given.choice('text', ['boot', 'shoe'])).toBe('boot');
  expect(() => given.choice('text', ['shoe'])).toThrow('give one of shoe');
});

test('lists of whole numbers', () => {
  expect(parseList('3', '--class')).toEqual([3]);
  expect(parseList('7,3', '--class')).toEqual([7, 3]);
  expect(parseList('0-2, 9,4 - 5', '--class')).toEqual([0, 1, 2, 9, 4, 5]);
  for (const wrong of ['', ',', '3-', '-3', '5-3', '1.5', 'a', '0-100000']) {
    expect(() => parseList(wrong, '--class'), wrong).toThrow(UsageError);
  }
});
