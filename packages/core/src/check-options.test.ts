import { expect, describe as group, test } from 'vitest';
import { checkOptions } from './check-options';
import { describe } from './describe';
import { suggestion } from './suggestion';

interface Options {
  readonly seed?: number;
  readonly temperature?: number;
}
const check = (options: unknown) =>
  checkOptions<Options>('draw', options as Options, { seed: true, temperature: true });

test('known options pass, also those that are undefined', () => {
  expect(check({ seed: undefined })).toBeUndefined();
  expect(check(Object.assign(Object.create(null), { temperature: 1 }))).toBeUndefined();
});

test.each<[unknown, string]>([
  [{ sed: 1 }, 'draw has no option "sed"; did you mean "seed"?'],
  [{ Temprature: 1 }, 'draw has no option "Temprature"; did you mean "temperature"?'],
  [{ temp: 1 }, 'draw has no option "temp"; did you mean "temperature"?'],
  [{ colour: 1 }, 'draw has no option "colour"; there are seed, temperature'],
  [{ toString: 1 }, 'draw has no option "toString"; there are seed, temperature'],
  [undefined, 'the options of draw are missing; give an object'],
  [7, 'the options of draw are 7; give an object'],
  [[1, 2], 'the options of draw are [1, 2]; give an object'],
  [new Float32Array(9), 'the options of draw are a Float32Array of 9 values; give an object'],
])('%o is refused', (options, message) => {
  expect(() => check(options)).toThrow(expect.objectContaining({ code: 'invalid-argument', message }));
});

test('a suggestion is near what was typed', () => {
  expect(suggestion('lables', ['labels', 'seed'])).toBe('did you mean "labels"?');
  expect(suggestion('x', ['labels', 'seed'])).toBeUndefined();
  expect(suggestion('a'.repeat(1e6), ['labels'])).toBeUndefined();
});

group('a value in a message is short', () => {
  test.each<[unknown, string]>([
    [new Float32Array(1e6), 'a Float32Array of 1000000 values'],
    [new Array(1e6).fill(0), 'a list of 1000000 items'],
    [[1, 3, 32, 32], '[1, 3, 32, 32]'],
    [['a'], 'a list of 1 items'],
    [{ type: 'float32', dims: [1, 2], data: [] }, 'float32 [1, 2]'],
    [{}, 'an object'],
    [new Map(), 'an object Map'],
    [null, 'null'],
    [Number.NaN, 'NaN'],
    [10n, '10'],
    [() => 1, 'a function'],
    [Symbol('x'), 'Symbol(x)'],
  ])('%#', (value, text) => {
    expect(describe(value)).toBe(text);
  });

  test('whatever it is', () => {
    const hostile = [
      'x'.repeat(1e6),
      { type: 'y'.repeat(1e6), dims: new Array(1e6).fill(1) },
      [...new Array(8).fill(1.23456789e-300)],
      Object.defineProperty(() => 1, 'name', { value: 'z'.repeat(1e6) }),
      new (class extends Object {
        static override readonly name = 'w'.repeat(1e6);
      })(),
      BigInt(`1${'0'.repeat(10_000)}`),
    ];
    for (const value of hostile) expect(describe(value).length).toBeLessThan(300);
  });
});
