import { defineConfig } from 'vitest/config';

/** Full-size models, long fuzzing, training: run on their own by `npm run test:slow`. */
export default defineConfig({
  test: {
    include: ['packages/*/src/**/*.slow.test.ts', 'tests/**/*.slow.test.ts'],
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
    maxWorkers: 1,
  },
});
