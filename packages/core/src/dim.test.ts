import { describe, expect, test } from 'vitest';
import {
  addDims,
  type Dim,
  dimTerms,
  evaluateDim,
  evaluateShape,
  formatShape,
  multiplyDims,
  plainSymbol,
  sameDim,
  sameShape,
  sizeOf,
  subtractDims,
  symbol,
} from './dim';

const batch = symbol('batch');
const step = symbol('step');

/** Repeatable expressions over batch, step and small numbers, with what they come to for given values. */
function expressions(count: number, values: { batch: number; step: number }): { dim: Dim; value: number }[] {
  const made: { dim: Dim; value: number }[] = [
    { dim: batch, value: values.batch },
    { dim: step, value: values.step },
    { dim: 3, value: 3 },
    { dim: 0, value: 0 },
  ];
  for (let i = 0; made.length < count; i++) {
    const [a, b] = [made[(i * 7) % made.length], made[(i * 5 + 3) % made.length]];
    const kind = i % 3;
    if (kind === 0) made.push({ dim: addDims(a.dim, b.dim), value: a.value + b.value });
    if (kind === 1) made.push({ dim: subtractDims(a.dim, b.dim), value: a.value - b.value });
    // Products of products grow without bound, so one factor stays a leaf.
    if (kind === 2)
      made.push({ dim: multiplyDims(a.dim, made[i % 3].dim), value: a.value * made[i % 3].value });
  }
  return made;
}

test.each([
  { batch: 1, step: 1 },
  { batch: 5, step: 8 },
  { batch: 0, step: 17 },
])('arithmetic on extents is arithmetic on their values %o', (values) => {
  for (const { dim, value } of expressions(60, values)) expect(evaluateDim(dim, values)).toBe(value);
});

describe('equal polynomials are equal however they were made', () => {
  const square = (x: Dim) => multiplyDims(x, x);
  test.each<[string, Dim, Dim]>([
    [
      '(b+s)(b-s) = bb-ss',
      multiplyDims(addDims(batch, step), subtractDims(batch, step)),
      subtractDims(square(batch), square(step)),
    ],
    [
      '(b+1)^2 = bb+2b+1',
      square(addDims(batch, 1)),
      addDims(addDims(square(batch), multiplyDims(2, batch)), 1),
    ],
    ['bs = sb', multiplyDims(batch, step), multiplyDims(step, batch)],
    ['b+b = 2b', addDims(batch, batch), multiplyDims(2, batch)],
    ['b+0 = b', addDims(batch, 0), batch],
    ['b*1 = b', multiplyDims(batch, 1), batch],
  ])('%s', (_, a, b) => {
    expect(sameDim(a, b)).toBe(true);
    expect(`${a}`).toBe(`${b}`);
  });

  test.each<[string, Dim, number]>([
    ['b-b', subtractDims(batch, batch), 0],
    ['b*0', multiplyDims(batch, 0), 0],
    ['(b+3)-b', subtractDims(addDims(batch, 3), batch), 3],
  ])('%s is a plain number', (_, dim, value) => {
    expect(dim).toBe(value);
  });
});

test('different polynomials are not equal', () => {
  expect(sameDim(batch, step)).toBe(false);
  expect(sameDim(batch, 1)).toBe(false);
  expect(sameDim(batch, multiplyDims(batch, batch))).toBe(false);
  expect(sameShape([batch, 3], [batch, 3, 1])).toBe(false);
  expect(sameShape([batch, 3], [batch, 4])).toBe(false);
  expect(sameShape([batch, 3], [symbol('batch'), 3])).toBe(true);
});

test('a plain symbol is told from everything else', () => {
  expect(plainSymbol(batch)).toBe('batch');
  for (const dim of [4, multiplyDims(2, batch), addDims(batch, 1), multiplyDims(batch, step)]) {
    expect(plainSymbol(dim)).toBeUndefined();
  }
});

test('terms list coefficient and factors', () => {
  const dim = addDims(multiplyDims(2, multiplyDims(batch, batch)), 5);
  expect(dimTerms(dim)).toHaveLength(2);
  expect(dimTerms(dim)).toEqual(
    expect.arrayContaining([
      { factor: 2, symbols: ['batch', 'batch'] },
      { factor: 5, symbols: [] },
    ]),
  );
  expect(dimTerms(7)).toEqual([{ factor: 7, symbols: [] }]);
});

test('sizes and shapes', () => {
  expect(sizeOf([])).toBe(1);
  expect(sizeOf([2, 0, 3])).toBe(0);
  expect(evaluateShape([batch, 3, multiplyDims(step, 2)], { batch: 4, step: 5 })).toEqual([4, 3, 10]);
  expect(formatShape([batch, 3])).toBe('[batch, 3]');
});

test.each(['', '2d', 'a*b', 'a b', 'a-b'])('"%s" is no name of a symbol', (name) => {
  expect(() => symbol(name)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});

test('a symbol without a value is named', () => {
  expect(() => evaluateDim(addDims(batch, step), { batch: 2 })).toThrow(
    expect.objectContaining({ code: 'shape', message: expect.stringContaining('"step"') }),
  );
});
