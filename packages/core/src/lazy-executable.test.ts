import { expect, test } from 'vitest';
import type { Executable } from './backend';
import { LazyExecutable } from './lazy-executable';

function fake(): Executable & { disposed: number } {
  return {
    disposed: 0,
    run: async () => ({}),
    createState: async () => {
      throw new Error('no states here');
    },
    async dispose() {
      this.disposed++;
    },
  };
}

test('compiles once for many, and only when needed', async () => {
  let compiled = 0;
  const executable = fake();
  const lazy = new LazyExecutable(async () => {
    compiled++;
    return executable;
  });
  expect(compiled).toBe(0);
  expect(await Promise.all([lazy.get(), lazy.get(), lazy.get()])).toEqual([
    executable,
    executable,
    executable,
  ]);
  expect(compiled).toBe(1);
  await lazy.dispose();
  await lazy.dispose();
  expect(executable.disposed).toBe(1);
  await expect(lazy.get()).rejects.toMatchObject({ code: 'closed' });
});

test('a failure is reported to all who wait, and tried again by the next', async () => {
  const executable = fake();
  const outcomes = [() => Promise.reject(new Error('no memory')), () => Promise.resolve(executable)];
  const lazy = new LazyExecutable(() => (outcomes.shift() as () => Promise<Executable>)());
  const both = await Promise.allSettled([lazy.get(), lazy.get()]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await lazy.get()).toBe(executable);
});

test('disposing while compiling disposes what comes of it, also of a failure', async () => {
  const executable = fake();
  const lazy = new LazyExecutable(async () => executable);
  const pending = lazy.get();
  await lazy.dispose();
  await pending;
  expect(executable.disposed).toBe(1);
  const failing = new LazyExecutable(() => Promise.reject(new Error('no memory')));
  const failure = failing.get();
  await Promise.all([expect(failure).rejects.toThrow('no memory'), failing.dispose()]);
});
