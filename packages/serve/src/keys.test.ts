import { describe, expect, test } from 'vitest';
import { KeyCheck, parseKeys } from './keys';

describe('a file of keys', () => {
  test('has one a line, and comments', () => {
    expect(parseKeys('\n# first\r\nkey-number-one\r\n  key-number-two  \n', 'keys')).toEqual([
      'key-number-one',
      'key-number-two',
    ]);
  });

  test.each([
    ['', 'no key'],
    ['# only this\n', 'no key'],
    ['key-number-one\nseven77\n', 'line 2'],
    ['with a space inside\n', 'line 1'],
    ['schl\u00fcssel-nummer\n', 'line 1'],
    ['x'.repeat(513), 'line 1'],
    [Array(10_001).fill('key-number').join('\n'), '10001 keys'],
  ])('is refused without printing what is in it: %#', (text, reason) => {
    const read = () => parseKeys(text, 'keys.txt');
    expect(read).toThrow(
      expect.objectContaining({ code: 'format', message: expect.stringContaining(reason) }),
    );
    expect(read).toThrow(
      expect.objectContaining({ message: expect.not.stringMatching(/seven77|space inside|xxxx/) }),
    );
  });
});

test('any of the keys opens, and nothing else does', () => {
  const check = new KeyCheck(['key-number-one', 'key-number-two']);
  for (const header of ['Bearer key-number-one', 'bearer   key-number-two '])
    expect(check.allows(header)).toBe(true);
  const wrong = [
    undefined,
    '',
    'Bearer ',
    'key-number-one',
    'Bearer key-number-one key-number-two',
    'Bearer key-number',
  ];
  for (const header of wrong) expect(check.allows(header)).toBe(false);
});
