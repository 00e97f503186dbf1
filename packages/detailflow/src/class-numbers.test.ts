import { expect, test } from 'vitest';
import { classNumbers } from './class-numbers';

const names = ['T-shirt/top', 'crane', 'ankle boot', 'Crane'];

test('classes by number and by name, in any case', () => {
  expect(classNumbers([3, 'Ankle Boot', 't-shirt/top ', 0], names)).toEqual([3, 2, 0, 0]);
  expect(classNumbers([4], undefined)).toEqual([4]); // what numbers there are the model knows
});

test.each<[unknown, readonly string[] | undefined, RegExp]>([
  [['ankel boot'], names, /"ankel boot" is the name of no class; did you mean "ankle boot"\?/],
  [
    ['zeppelin'],
    names,
    /"zeppelin" is the name of no class; there are T-shirt\/top, crane, ankle boot, Crane/,
  ],
  [['crane'], names, /"crane" is the name of the classes 1, 3; give one of the numbers/],
  [['boot'], undefined, /this model has no class names, give numbers/],
  ['ankle boot', names, /labels are "ankle boot"; give a list/],
  [undefined, names, /labels are missing; give a list/],
  [['zeppelin'], Array.from({ length: 1000 }, (_, i) => `class ${i}`), /and 980 more/],
])('%o is refused', (labels, known, message) => {
  const call = () => classNumbers(labels as string[], known);
  expect(call).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  expect(call).toThrow(message);
});
