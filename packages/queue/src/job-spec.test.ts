import { expect, test } from 'vitest';
import { type JobSpec, jobDigest } from './job-spec';

const digest = (identity: unknown) =>
  jobDigest({ kind: 'squares', identity: identity as JobSpec['identity'] });

test('equal identities are one job, in whatever order their keys are, and different ones are two', () => {
  expect(digest({ a: 1, b: [{ d: 2, c: 3 }] })).toBe(digest({ b: [{ c: 3, d: 2 }], a: 1, e: undefined }));
  expect(digest({ a: 1 })).not.toBe(digest({ a: 2 }));
  expect(digest({ a: 1 })).not.toBe(jobDigest({ kind: 'cubes', identity: { a: 1 } }));
});

// JSON leaves these out, or writes something else for them: jobs that differ in them would share their results.
test.each<[string, unknown]>([
  ['a Map', new Map([['seed', 1]])],
  ['a Set inside', { seeds: new Set([1]) }],
  ['an array of numbers', { values: new Float32Array(2) }],
  ['an error', [new Error('x')]],
  ['a function', { cut: () => 1 }],
  ['a symbol', { cut: Symbol('x') }],
  ['undefined in a list', [1, undefined]],
  ['NaN', { cfg: Number.NaN }],
  ['a big integer', { seed: 1n }],
  ['nothing', undefined],
])('what JSON cannot say is refused: %s', (_, identity) => {
  expect(() => digest(identity)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});

test('so is what holds itself, and a job without a kind', () => {
  const round: Record<string, unknown> = {};
  round.round = round;
  const refused = expect.objectContaining({ code: 'invalid-argument' });
  expect(() => digest(round)).toThrow(refused);
  for (const spec of [undefined, null, {}, { identity: 1 }, { kind: 5, identity: 1 }]) {
    expect(() => jobDigest(spec as unknown as JobSpec)).toThrow(refused);
  }
});
