import { expect, test } from 'vitest';
import { scheduleSteps, stepAt } from './schedule';

test('steps follow one another without a gap', () => {
  expect(scheduleSteps([1, 4, 9])).toEqual([
    { index: 0, steps: 3, position: 0, count: 1 },
    { index: 1, steps: 3, position: 1, count: 4 },
    { index: 2, steps: 3, position: 5, count: 9 },
  ]);
});

test.each([
  [0, 0],
  [1, 1],
  [4, 1],
  [5, 2],
  [13, 2],
])('token %i belongs to step %i', (position, index) => {
  expect(stepAt([1, 4, 9], position).index).toBe(index);
});

test.each([-1, 14])('no step predicts token %i', (position) => {
  expect(() => stepAt([1, 4, 9], position)).toThrow(`no step predicts token ${position}`);
});
