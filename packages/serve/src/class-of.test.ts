import { expect, test } from 'vitest';
import { classOf } from './class-of';

const names = ['bag', 'Ankle Boot', 'coat', 'coat', '7'];
const found = (given: string | number, known: readonly string[] | undefined = names) =>
  classOf(given, { classes: 8, names: known, field: 'prompt' });

test('classes are found by number and by name', () => {
  expect([found(0), found(8), found(' ankle BOOT '), found('3')]).toEqual([0, 8, 1, 3]);
  expect(found('7')).toBe(4); // a name goes before a number
  expect(found('7', [])).toBe(7);
});

test('a letter with marks is found, whichever way it is written', () => {
  const [composed, decomposed] = ['\u00c4pfel', 'A\u0308pfel'];
  for (const name of [composed, decomposed, ` ${composed.toLowerCase()}`]) {
    expect(found(name, ['bag', composed])).toBe(1);
    expect(found(name, ['bag', decomposed])).toBe(1);
  }
});

test.each([
  [9, 'the classes are 0 to 7, and 8 for none'],
  ['9', 'the classes are 0 to 7'],
  ['coat', 'classes 2, 3'],
  ['bagg', 'bag'],
  ['-1', 'no class'],
  ['__proto__', 'no class'],
])('%j is refused', (given, text) => {
  expect(() => found(given)).toThrow(
    expect.objectContaining({ status: 400, param: 'prompt', message: expect.stringContaining(text) }),
  );
});

test('a name is refused where there are none', () => {
  expect(() => classOf('bag', { classes: 8, names: undefined, field: 'class' })).toThrow(/no class names/);
});
