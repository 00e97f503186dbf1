import { expect, test, vi } from 'vitest';
import { DetailFlowError } from './errors';

test('the message starts with the place', () => {
  expect(new DetailFlowError('shape', 'is wrong').message).toBe('is wrong');
  expect(new DetailFlowError('shape', 'is wrong', { entry: 'w' }).message).toBe('w: is wrong');
  const cause = new Error('disk on fire');
  const error = new DetailFlowError('io', 'is wrong', { file: 'a.pt', entry: 'w', cause });
  expect(error.message).toBe('a.pt: w: is wrong');
  expect(error).toMatchObject({ name: 'DetailFlowError', code: 'io', file: 'a.pt', entry: 'w' });
  expect(error.cause).toBe(cause);
  expect(error).toBeInstanceOf(Error);
});

test('errors of another copy of the package are recognised', async () => {
  vi.resetModules();
  const copy = await import('./errors');
  const error = new copy.DetailFlowError('io', 'gone');
  expect(error).not.toBeInstanceOf(DetailFlowError); // so this really is another class
  expect(DetailFlowError.isInstance(error)).toBe(true);
  expect(copy.DetailFlowError.isInstance(new DetailFlowError('io', 'gone'))).toBe(true);
});

test.each([new Error('io'), { name: 'DetailFlowError', code: 'io' }, 'io', null, undefined, 7])(
  '%o is none of ours',
  (value) => {
    expect(DetailFlowError.isInstance(value)).toBe(false);
  },
);
